-- Why: two calls at once made an 11th unfinished job of a tenant, or a 101st open proposal: each counted what had been
-- committed when its statement began.

-- Whether a tenant may have one more unfinished job. The lock lasts until the end of the transaction, so whoever comes
-- next counts what this one makes: every statement of a function reads what has been committed by then. There is always
-- room for a key that is stored already: who wants to store it once more is refused by its constraint, and finds it when it
-- is run again.
CREATE FUNCTION has_room_for_job(for_tenant uuid, key text, most integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('jobs of ' || for_tenant, 0));
    RETURN EXISTS (SELECT FROM job WHERE tenant_id = for_tenant AND idempotency_key = key)
           OR (SELECT count(*) FROM job WHERE tenant_id = for_tenant AND finished_at IS NULL) < most;
END $$;

-- The same for an open proposal; those that have expired by `now` do not count.
CREATE FUNCTION has_room_for_proposal(for_tenant uuid, proposal uuid, now timestamptz, most integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('proposals of ' || for_tenant, 0));
    RETURN EXISTS (SELECT FROM proposal AS known WHERE known.proposal_id = proposal)
           OR (SELECT count(*) FROM proposal AS known
               WHERE known.tenant_id = for_tenant AND known.state = 'open' AND known.expires_at > now) < most;
END $$;
