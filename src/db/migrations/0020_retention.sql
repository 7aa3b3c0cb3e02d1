-- Why: what ended long ago is deleted, with its body, its attempts and its terms, a page at a time.

-- Deletes what ended before a moment, of one destination, among the first `most` deliveries behind an id and below another
-- one that may have; returns how many were deleted, how many looked at, and the last of those. What still holds a place
-- under an ordering key stays: without it, the next one would go though nobody resolved the failure.
-- The role that calls it cannot delete anything else, and nothing that ended in the last day.
CREATE FUNCTION delete_ended(
    for_destination uuid, ended_before timestamptz, behind uuid, below uuid, most integer,
    OUT deleted integer, OUT looked_at integer, OUT last_id uuid
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF ended_before > clock_timestamp() - interval '1 day' THEN
        RAISE EXCEPTION 'what ended in the last day is not deleted' USING ERRCODE = 'check_violation';
    END IF;
    WITH old AS (
        SELECT newest.delivery_id, newest.finished_at
        FROM unnest(ARRAY ['delivered', 'failed', 'unknown', 'canceled']) AS listed (phase)
        CROSS JOIN LATERAL (
            SELECT delivery_id, finished_at
            FROM delivery
            WHERE destination_id = ANY (ARRAY [for_destination]) AND phase = ANY (ARRAY [listed.phase])
              AND delivery_id > behind AND delivery_id < below
            ORDER BY destination_id, phase, delivery_id
            LIMIT most
        ) AS newest
        ORDER BY newest.delivery_id
        LIMIT most
    ), due AS (
        SELECT delivery.delivery_id
        FROM old JOIN delivery USING (delivery_id)
        WHERE delivery.phase <> 'open' AND delivery.finished_at < ended_before
          AND NOT EXISTS (SELECT FROM ordering_place WHERE ordering_place.delivery_id = delivery.delivery_id)
        FOR UPDATE OF delivery SKIP LOCKED
    ), gone AS (
        DELETE FROM delivery USING due WHERE delivery.delivery_id = due.delivery_id RETURNING delivery.delivery_id
    )
    SELECT (SELECT count(*) FROM gone), count(*), (SELECT old.delivery_id FROM old ORDER BY 1 DESC LIMIT 1)
    INTO deleted, looked_at, last_id
    FROM old;
END $$;
REVOKE EXECUTE ON FUNCTION delete_ended FROM PUBLIC;
GRANT EXECUTE ON FUNCTION delete_ended TO sallyport_app;
