-- Why: what a limit makes wait was found by walking through whole tables where much waits, and what an open circuit breaker
-- had made wait came only 20 a second after it had closed, while whatever was new went at once.

-- From which delivery on those that the breaker made wait are still to be woken, where it has closed; else empty.
ALTER TABLE destination_flow ADD COLUMN catch_up_from uuid;

-- As before, and always read along the key: most keys have nothing to read, whatever the statistics say of the others.
-- That the state is asked for row by row keeps the planner from joining whole tables.
CREATE OR REPLACE FUNCTION is_held_back(for_destination uuid, options jsonb, key text, for_delivery uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT true
        FROM ordering_place AS earlier
        WHERE earlier.destination_id = for_destination AND earlier.ordering_key = key
          AND earlier.place < coalesce(
              (SELECT own.place FROM ordering_place AS own WHERE own.delivery_id = for_delivery), 9223372036854775807)
          AND (options #>> '{ordering,after_failure}' IS DISTINCT FROM 'skip'
               OR (SELECT ahead.phase FROM delivery AS ahead WHERE ahead.delivery_id = earlier.delivery_id) = 'open')
        ORDER BY earlier.place
        LIMIT 1), false)
$$;

-- As before, and read along the key.
CREATE OR REPLACE FUNCTION leave_place(for_destination uuid, key text, for_delivery uuid, phase text) RETURNS SETOF uuid
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF leave_place.phase NOT IN ('delivered', 'canceled') THEN
        PERFORM FROM destination
        WHERE destination_id = for_destination AND options #>> '{ordering,after_failure}' = 'skip'
          AND leave_place.phase <> 'open';
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    DELETE FROM ordering_place WHERE delivery_id = for_delivery;
    RETURN QUERY
        SELECT behind.delivery_id
        FROM ordering_place AS behind
        WHERE behind.destination_id = for_destination AND behind.ordering_key = key
          AND behind.delivery_id <> for_delivery
          AND (SELECT delivery.phase FROM delivery WHERE delivery.delivery_id = behind.delivery_id) = 'open'
        ORDER BY behind.place
        LIMIT 1;
END $$;

-- Up to `number` deliveries that wait for a slot of a destination, or for its share of the workers, those first that have
-- waited longest; none of `besides`. Read along the line.
CREATE FUNCTION first_in_line(for_destination uuid, besides uuid[], number integer, now timestamptz) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    SELECT waiter.delivery_id
    FROM slot_waiter AS waiter
    WHERE waiter.destination_id = for_destination AND waiter.delivery_id <> ALL (besides)
      AND (SELECT delivery.state = 'pending' OR delivery.state = 'unknown' AND delivery.ask_at <= now
           FROM delivery WHERE delivery.delivery_id = waiter.delivery_id)
    ORDER BY waiter.delivery_id
    LIMIT number
$$;

-- Lets up to `number` deliveries go that wait for the breaker of a destination, which has closed: those that were accepted
-- first, behind `since`. Returns them, and behind which one to go on: empty where none is left. Reads 1,000 at most.
-- Each of them has a message of its own for its turn, so none is lost where the wake-up is.
--
-- SKIP LOCKED: the caller has locked the row of destination_flow, for which whoever holds one of these rows may wait.
CREATE FUNCTION catch_up(
    for_destination uuid, since uuid, number integer, now timestamptz, OUT woken uuid[], OUT next_since uuid
) LANGUAGE plpgsql AS $$
DECLARE
    looked_at integer;
    last_look uuid;
BEGIN
    WITH unfinished AS (
        SELECT delivery.delivery_id, delivery.waiting_for, delivery.waits_until
        FROM delivery
        WHERE delivery.destination_id = for_destination AND delivery.phase = 'open' AND delivery.delivery_id > since
        ORDER BY delivery.delivery_id
        LIMIT 1000
    ), waiting AS (
        SELECT unfinished.delivery_id
        FROM unfinished
        WHERE unfinished.waiting_for = 'circuit_breaker' AND unfinished.waits_until > now
        ORDER BY unfinished.delivery_id
        LIMIT number
    ), locked AS (
        SELECT delivery.delivery_id
        FROM delivery JOIN waiting USING (delivery_id)
        WHERE delivery.state = 'pending'
        FOR UPDATE OF delivery SKIP LOCKED
    ), changed AS (
        UPDATE delivery SET waits_until = now
        FROM locked WHERE delivery.delivery_id = locked.delivery_id
        RETURNING delivery.delivery_id
    )
    SELECT (SELECT coalesce(array_agg(changed.delivery_id), '{}') FROM changed),
           (SELECT count(*) FROM unfinished),
           CASE WHEN (SELECT count(*) FROM waiting) = number
                THEN (SELECT waiting.delivery_id FROM waiting ORDER BY waiting.delivery_id DESC LIMIT 1)
                ELSE (SELECT unfinished.delivery_id FROM unfinished ORDER BY unfinished.delivery_id DESC LIMIT 1) END
    INTO woken, looked_at, last_look;
    next_since := CASE WHEN looked_at = 1000 OR cardinality(woken) > 0 THEN last_look END;
END $$;

-- As before, and where the breaker has closed, each attempt that was answered well wakes two deliveries that it had made
-- wait: so all come within a few rounds. A destination with a rate needs none of that: its turns are as many as it takes.
CREATE OR REPLACE FUNCTION return_turns(
    for_destination uuid, ended uuid[], failed boolean[], passed_until timestamptz, now timestamptz,
    quickly boolean DEFAULT false
) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    flow destination_flow;
    limits record;
    probe_failed boolean;
    free integer;
    waiters uuid[];
    caught_up uuid[];
    workers record;
BEGIN
    SELECT * INTO flow FROM destination_flow WHERE destination_id = for_destination FOR UPDATE;
    SELECT found.* INTO limits
    FROM destination, limits_of(options) AS found WHERE destination_id = for_destination;

    IF limits.failure_ratio IS NULL THEN
        flow.open_until := NULL;
        flow.counted_since := NULL;
    ELSIF flow.open_until IS NULL THEN
        IF flow.counted_since <= now - limits.window_length THEN
            flow.counted_since := NULL;
        END IF;
        IF flow.counted_since IS NULL THEN
            flow.attempts := 0;
            flow.failures := 0;
        END IF;
        IF flow.counted_since IS NOT NULL OR true = ANY (failed) THEN
            flow.counted_since := coalesce(flow.counted_since, now);
            flow.attempts := flow.attempts + (SELECT count(known) FROM unnest(failed) AS known);
            flow.failures := flow.failures + (SELECT count(*) FROM unnest(failed) AS known WHERE known);
        END IF;
        IF flow.attempts >= limits.minimum_attempts AND flow.failures >= limits.failure_ratio * flow.attempts THEN
            flow.open_until := now + limits.open_length;
            flow.counted_since := NULL;
        END IF;
    ELSIF flow.probe_id = ANY (ended) THEN
        probe_failed := failed[array_position(ended, flow.probe_id)];
        IF NOT probe_failed THEN
            flow.catch_up_from := '00000000-0000-0000-0000-000000000000';
        END IF;
        flow.open_until := CASE WHEN probe_failed THEN now + limits.open_length
                                WHEN probe_failed IS NULL THEN flow.open_until END;
        flow.probe_id := NULL;
        flow.probe_until := NULL;
    END IF;
    IF flow.open_until IS NULL THEN
        flow.probe_id := NULL;
        flow.probe_until := NULL;
    END IF;
    IF flow.counted_since IS NULL THEN
        flow.attempts := 0;
        flow.failures := 0;
    END IF;

    SELECT coalesce(array_agg(held.id), '{}'), coalesce(array_agg(held.until), '{}')
    INTO flow.in_flight, flow.in_flight_until
    FROM unnest(flow.in_flight, flow.in_flight_until) AS held (id, until)
    WHERE held.until > now AND held.id <> ALL (ended);
    free := limits.concurrency - cardinality(flow.in_flight);
    IF free > 0 THEN
        waiters := ARRAY (SELECT first_in_line(for_destination, flow.in_flight, free, now));
        flow.in_flight := flow.in_flight || waiters;
        flow.in_flight_until := flow.in_flight_until || array_fill(passed_until, ARRAY [cardinality(waiters)]);
    END IF;

    IF flow.share IS NOT NULL THEN
        DELETE FROM attempt_under_way
        WHERE destination_id = for_destination AND (delivery_id = ANY (ended) OR leased_until <= now);
        flow.share := flow.share + CASE WHEN quickly THEN 1 ELSE 0 END;
        SELECT count(DISTINCT lease_id) AS all_of_it, bool_or(begun_at <= now - slow_after()) AS any_slow
        INTO workers
        FROM attempt_under_way WHERE destination_id = for_destination;
        -- A batch for each worker that is free of it, if all come together.
        IF limits.concurrency IS NULL THEN
            waiters := ARRAY (
                SELECT first_in_line(
                    for_destination, '{}', greatest(0, 10 * (flow.share - workers.all_of_it))::integer, now));
        END IF;
        IF quickly AND workers.any_slow IS NOT TRUE AND waiters = '{}' OR limits.concurrency IS NOT NULL THEN
            flow.share := NULL;
            DELETE FROM attempt_under_way WHERE destination_id = for_destination;
        END IF;
    END IF;

    IF flow.open_until IS NOT NULL THEN
        flow.catch_up_from := NULL;
    END IF;
    IF flow.catch_up_from IS NOT NULL AND limits.rate IS NULL AND false = ANY (failed) THEN
        SELECT found.woken, found.next_since INTO caught_up, flow.catch_up_from
        FROM catch_up(for_destination, flow.catch_up_from,
                      2 * (SELECT count(*) FROM unnest(failed) AS known WHERE NOT known)::integer, now) AS found;
    END IF;

    UPDATE destination_flow
    SET counted_since = flow.counted_since, attempts = flow.attempts, failures = flow.failures,
        open_until = flow.open_until, probe_id = flow.probe_id, probe_until = flow.probe_until,
        in_flight = flow.in_flight, in_flight_until = flow.in_flight_until, share = flow.share,
        catch_up_from = flow.catch_up_from
    WHERE destination_id = for_destination;
    RETURN QUERY SELECT unnest(waiters) UNION SELECT unnest(caught_up);
END $$;

-- As before, read along the line, and with those that the closed breaker let go: their turn is the time of the record,
-- which is PASSED_SECONDS (db/attempts.py) before `passed_until`.
CREATE OR REPLACE FUNCTION woken_before(for_delivery uuid, passed_until timestamptz) RETURNS SETOF uuid LANGUAGE sql AS $$
    SELECT held.id
    FROM delivery JOIN destination_flow USING (destination_id)
    CROSS JOIN unnest(in_flight, in_flight_until) AS held (id, until)
    WHERE delivery_id = for_delivery AND held.until = passed_until
    UNION (
        SELECT first_in_line(destination_id, '{}', 10, passed_until - interval '5 seconds')
        FROM delivery JOIN destination_flow USING (destination_id)
        WHERE delivery_id = for_delivery AND share IS NOT NULL)
    UNION (
        SELECT woken.delivery_id
        FROM delivery AS ended JOIN destination_flow USING (destination_id)
        CROSS JOIN LATERAL (
            SELECT waiting.delivery_id, waiting.waiting_for, waiting.waits_until
            FROM delivery AS waiting
            WHERE waiting.destination_id = ended.destination_id AND waiting.phase = 'open'
              AND waiting.delivery_id <= catch_up_from
            ORDER BY waiting.delivery_id DESC
            LIMIT 100
        ) AS woken
        WHERE ended.delivery_id = for_delivery AND woken.waiting_for = 'circuit_breaker'
          AND woken.waits_until = passed_until - interval '5 seconds')
    UNION
    SELECT leave_place(destination_id, ordering_key, delivery_id, phase)
    FROM delivery WHERE delivery_id = for_delivery AND ordering_key IS NOT NULL
$$;
