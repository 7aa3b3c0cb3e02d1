-- Why: destinations say for how long bodies, responses and records are stored. One walk a day goes through all of them,
-- whichever processes make it.

-- The responses to it are deleted, and those who look for something to delete need not look at its attempts.
ALTER TABLE delivery ADD COLUMN responses_expired boolean;

-- What delete_ended did (0020_retention.sql), and what goes before the record does: bodies, and responses. Moments of the
-- last day count as a day ago. What is being asked about may yet be sent again, and stays whole.
CREATE FUNCTION apply_retention(
    for_destination uuid, records_before timestamptz, bodies_before timestamptz, responses_before timestamptz,
    behind uuid, below uuid, most integer,
    OUT deleted integer, OUT bodies integer, OUT responses integer, OUT looked_at integer, OUT last_id uuid
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    latest CONSTANT timestamptz := clock_timestamp() - interval '1 day';
    is_deleted boolean;
    ids uuid[];
BEGIN
    SELECT deleted_at IS NOT NULL INTO is_deleted FROM destination WHERE destination_id = for_destination;
    SELECT array_agg(old.delivery_id ORDER BY old.delivery_id), count(*)
    INTO ids, looked_at
    FROM (
        SELECT newest.delivery_id
        FROM unnest(ARRAY ['delivered', 'failed', 'unknown', 'canceled']) AS listed (phase)
        CROSS JOIN LATERAL (
            SELECT delivery_id
            FROM delivery
            WHERE destination_id = ANY (ARRAY [for_destination]) AND phase = ANY (ARRAY [listed.phase])
              AND delivery_id > behind AND delivery_id < below
            ORDER BY destination_id, phase, delivery_id
            LIMIT most
        ) AS newest
        ORDER BY newest.delivery_id
        LIMIT most
    ) AS old;
    last_id := ids[looked_at];

    WITH due AS (
        SELECT delivery_id
        FROM delivery
        WHERE delivery_id = ANY (ids) AND phase <> 'open' AND finished_at < least(records_before, latest)
          AND (ask_at IS NULL OR is_deleted)
          AND NOT EXISTS (SELECT FROM ordering_place WHERE ordering_place.delivery_id = delivery.delivery_id)
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM delivery USING due WHERE delivery.delivery_id = due.delivery_id RETURNING 1
    )
    SELECT count(*) INTO deleted FROM gone;

    bodies := 0;
    responses := 0;
    IF greatest(bodies_before, responses_before) <= records_before THEN
        RETURN;
    END IF;
    WITH old AS (
        SELECT delivery_id,
               finished_at < least(bodies_before, latest)
                   AND (payload IS NULL OR payload = 'redacted' AND EXISTS (
                           SELECT FROM delivery_body WHERE delivery_body.delivery_id = delivery.delivery_id))
                   AS body_goes,
               finished_at < least(responses_before, latest)
                   AND responses_expired IS NULL AND payload IS DISTINCT FROM 'expunged' AS responses_go
        FROM delivery
        WHERE delivery_id = ANY (ids) AND phase <> 'open' AND (ask_at IS NULL OR is_deleted)
        FOR UPDATE SKIP LOCKED
    ), due AS (
        SELECT * FROM old WHERE body_goes OR responses_go
    ), bodies_gone AS (
        DELETE FROM delivery_body USING due WHERE delivery_body.delivery_id = due.delivery_id AND body_goes
    ), responses_gone AS (
        UPDATE attempt
        SET response_headers = deleted_headers('the retention of responses is over'), response_body = '',
            response_truncated = true
        FROM due
        WHERE attempt.delivery_id = due.delivery_id AND responses_go AND outcome = 'answered'
    ), marked AS (
        UPDATE delivery
        SET payload = CASE WHEN body_goes THEN coalesce(payload, 'expired') ELSE payload END,
            responses_expired = CASE WHEN responses_go THEN true ELSE responses_expired END
        FROM due
        WHERE delivery.delivery_id = due.delivery_id
    )
    SELECT count(*) FILTER (WHERE body_goes), count(*) FILTER (WHERE responses_go) INTO bodies, responses FROM due;
END $$;
REVOKE EXECUTE ON FUNCTION apply_retention FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apply_retention TO sallyport_app;

-- How far the walk has come: one row. It begins again a day after its end; whoever makes a few pages of it takes it for as
-- long as those may take.
CREATE TABLE retention_walk (
    only_row       boolean     NOT NULL DEFAULT true,
    begins_at      timestamptz NOT NULL,
    destination_id uuid,
    behind         uuid,
    taken_by       uuid,
    taken_until    timestamptz NOT NULL,
    CONSTRAINT retention_walk_pkey PRIMARY KEY (only_row),
    CONSTRAINT retention_walk_is_one_row CHECK (only_row)
) WITH (fillfactor = 10);
INSERT INTO retention_walk (begins_at, taken_until) VALUES ('2000-01-01Z', '2000-01-01Z');
GRANT SELECT, UPDATE (begins_at, destination_id, behind, taken_by, taken_until) ON retention_walk TO sallyport_app;
GRANT SELECT ON retention_walk TO sallyport_readonly;
