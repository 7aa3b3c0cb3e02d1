-- Why: once a partner answers again, all that it was to be asked about is asked within minutes, also where a worker
-- stopped meanwhile or single answers say nothing.

-- As before, but that:
-- * `silent_since` begins again with each question that is answered, for as long as others wait. Single answers that say
--   nothing are then asked for again soon, not after as long as the whole silence lasted.
-- * a question whose worker stopped counts as one that waits. Its own message comes only when the queue gives it back.
-- * an answer to something else wakes one as often as silence lasts long: each wake-up adds a message for its delivery.
CREATE OR REPLACE FUNCTION note_answers(
    for_destination uuid, ended uuid[], any_silent boolean, answered_questions integer, anything_answered boolean,
    now timestamptz
) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    flow destination_flow;
    wanted integer := 2 * answered_questions;
    woken uuid[];
BEGIN
    SELECT * INTO flow FROM destination_flow WHERE destination_id = for_destination FOR UPDATE;
    IF any_silent AND flow.silent_since IS NULL THEN
        UPDATE destination_flow SET silent_since = now WHERE destination_id = for_destination;
        RETURN;
    END IF;
    IF flow.silent_since IS NULL THEN
        RETURN;
    END IF;
    IF wanted = 0 AND anything_answered AND NOT any_silent
       AND (flow.roused_at IS NULL
            OR flow.roused_at <= now - greatest(interval '1 minute', (now - flow.silent_since) / 4)) THEN
        wanted := 1;
        UPDATE destination_flow SET roused_at = now WHERE destination_id = for_destination;
    END IF;
    IF wanted = 0 THEN
        RETURN;
    END IF;
    WITH next AS (
        SELECT delivery_id
        FROM delivery
        WHERE destination_id = for_destination AND phase = 'unknown' AND (ask_silent OR asking_id IS NOT NULL)
          AND (asking_until IS NULL OR asking_until <= now) AND ask_at IS NOT NULL AND delivery_id <> ALL (ended)
        ORDER BY delivery_id
        LIMIT wanted
        -- SKIP LOCKED: whoever holds one of these rows locks the row of destination_flow after it.
        FOR UPDATE SKIP LOCKED
    ), changed AS (
        UPDATE delivery SET ask_at = now, ask_silent = NULL, asking_id = NULL, asking_until = NULL
        FROM next WHERE delivery.delivery_id = next.delivery_id
        RETURNING delivery.delivery_id
    )
    SELECT array_agg(delivery_id) INTO woken FROM changed;
    IF answered_questions > 0 THEN
        UPDATE destination_flow
        SET silent_since = CASE WHEN any_silent OR woken IS NOT NULL OR EXISTS (
                                    SELECT FROM delivery
                                    WHERE destination_id = for_destination AND phase = 'unknown'
                                      AND (ask_silent OR asking_id IS NOT NULL) AND delivery_id <> ALL (ended))
                                THEN now END,
            roused_at = NULL
        WHERE destination_id = for_destination;
    END IF;
    RETURN QUERY SELECT unnest(woken);
END $$;
