-- Why: the payload of a delivery can be taken away before its record is: what it was about is gone then, and who sent
-- what when, with digests of it, stays.

ALTER TABLE delivery
    -- What became of the request that is stored: empty while it is whole.
    ADD COLUMN payload text
        CONSTRAINT delivery_payload_known CHECK (payload IN ('redacted', 'expired', 'expunged'))
        -- Whatever code wants to send it again: what is not whole is never sent.
        CONSTRAINT delivery_payload_whole_until_ended CHECK (payload IS NULL OR state NOT IN ('pending', 'sending'));

-- What is stored of a response instead of its headers, when these are deleted.
CREATE FUNCTION deleted_headers(why text) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_array(jsonb_build_array('Sallyport-Note', 'deleted: ' || why))
$$;

-- Deletes the payload of a tenant's delivery that has ended: query, headers, body and metadata, and the responses to its
-- attempts. Digests and lengths stay, and with them the seals of the attempts (attempt_facts). Returns the state that
-- the delivery is in, whether its payload is gone now, and whether it was not before; nothing where the tenant has no such
-- delivery.
-- The role that calls it can delete no payload otherwise.
CREATE FUNCTION expunge_delivery(
    for_tenant uuid, for_delivery uuid, OUT found_state text, OUT done boolean, OUT newly boolean
) RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    chosen delivery;
BEGIN
    SELECT * INTO chosen FROM delivery WHERE delivery_id = for_delivery AND tenant_id = for_tenant FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    found_state := chosen.state;
    done := chosen.phase <> 'open';
    newly := done AND chosen.payload IS DISTINCT FROM 'expunged';
    IF newly THEN
        DELETE FROM delivery_term
        USING (SELECT term_of(for_tenant, 'metadata.' || key, value #>> '{}') AS term
               FROM jsonb_each(chosen.metadata)) AS had
        WHERE delivery_term.term = had.term AND delivery_id = for_delivery;
        DELETE FROM delivery_body WHERE delivery_id = for_delivery;
        UPDATE attempt
        SET response_headers = deleted_headers('the delivery was expunged'), response_body = '',
            response_truncated = true
        WHERE delivery_id = for_delivery AND outcome = 'answered';
        UPDATE delivery SET payload = 'expunged', query = '', headers = '[]', metadata = '{}'
        WHERE delivery_id = for_delivery;
    END IF;
    RETURN NEXT;
END $$;
REVOKE EXECUTE ON FUNCTION expunge_delivery FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expunge_delivery TO sallyport_app;
