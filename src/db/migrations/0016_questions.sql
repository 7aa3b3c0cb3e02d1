-- Why: a partner is asked what became of a delivery that ended as unknown. Code that does not know these columns asks
-- nothing, and changes nothing that they say.

-- Empty columns of deliveries that nobody asks about take no room. `ask_at` is when the next question is due, `asking_id`
-- and `asking_until` the lease of whoever asks at present: the delivery stays unknown meanwhile, so that a person may
-- decide. `questions_made` counts all questions, as the numbers of the log do; `questions_answered` those since the
-- delivery became unknown that the partner answered. `ask_silent` says that it did not answer the last one.
ALTER TABLE delivery
    ADD COLUMN ask_at timestamptz,
    ADD COLUMN asking_id uuid,
    ADD COLUMN asking_until timestamptz,
    ADD COLUMN questions_made smallint,
    ADD COLUMN questions_answered smallint,
    ADD COLUMN ask_silent boolean;

ALTER TABLE attempt ADD COLUMN kind text NOT NULL DEFAULT 'send'
    CONSTRAINT attempt_kind_known CHECK (kind IN ('send', 'reconcile'));

-- Since when a partner says nothing when it is asked; empty where nobody waits for it to answer. `roused_at` is when an
-- answer to something else was last taken as a sign that it may answer again.
ALTER TABLE destination_flow
    ADD COLUMN silent_since timestamptz,
    ADD COLUMN roused_at timestamptz;

-- As before, of attempts to send alone: what became of a question says nothing of what may have happened.
CREATE OR REPLACE FUNCTION add_terms_of_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_term (term, delivery_id)
    SELECT term_of(tenant_id, property, content), delivery_id
    FROM delivery
    CROSS JOIN LATERAL (
        VALUES ('outcome', CASE WHEN NEW.status IS NULL THEN NEW.outcome END),
               ('status', (NEW.status / 100)::text),
               ('may_have_happened', CASE WHEN leaves_open(NEW.outcome, NEW.status) THEN 'true' END)
    ) AS has (property, content)
    WHERE delivery_id = NEW.delivery_id AND content IS NOT NULL AND NEW.kind = 'send'
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- As before, and questions that take long are noted too.
CREATE OR REPLACE FUNCTION note_slow(
    for_destination uuid, slow uuid[], lease uuid, begun_at timestamptz, usual_share integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM destination_flow WHERE destination_id = for_destination FOR UPDATE;
    INSERT INTO attempt_under_way
    SELECT for_destination, delivery_id, lease, note_slow.begun_at, coalesce(leased_until, asking_until)
    FROM delivery
    WHERE delivery_id = ANY (slow)  -- and has not ended since
      AND (state = 'sending' AND lease_id = lease OR state = 'unknown' AND asking_id = lease)
    ON CONFLICT ON CONSTRAINT attempt_under_way_pkey DO NOTHING;
    UPDATE destination_flow SET share = least(share, usual_share)
    WHERE destination_id = for_destination
      AND EXISTS (SELECT FROM attempt_under_way WHERE destination_id = for_destination);
END $$;

-- As before, and a free slot is passed on to a question too.
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
        SELECT coalesce(array_agg(waiter.delivery_id), '{}') INTO waiters
        FROM (
            SELECT slot_waiter.delivery_id
            FROM slot_waiter JOIN delivery USING (delivery_id)
            WHERE slot_waiter.destination_id = for_destination
              AND (delivery.state = 'pending' OR delivery.state = 'unknown' AND delivery.ask_at <= now)
              AND slot_waiter.delivery_id <> ALL (flow.in_flight)
            ORDER BY slot_waiter.delivery_id
            LIMIT free
        ) AS waiter;
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
            SELECT coalesce(array_agg(waiter.delivery_id), '{}') INTO waiters
            FROM (
                SELECT slot_waiter.delivery_id
                FROM slot_waiter JOIN delivery USING (delivery_id)
                WHERE slot_waiter.destination_id = for_destination
                  AND (delivery.state = 'pending' OR delivery.state = 'unknown' AND delivery.ask_at <= now)
                ORDER BY slot_waiter.delivery_id
                LIMIT greatest(0, 10 * (flow.share - workers.all_of_it))
            ) AS waiter;
        END IF;
        IF quickly AND workers.any_slow IS NOT TRUE AND waiters = '{}' OR limits.concurrency IS NOT NULL THEN
            flow.share := NULL;
            DELETE FROM attempt_under_way WHERE destination_id = for_destination;
        END IF;
    END IF;

    UPDATE destination_flow
    SET counted_since = flow.counted_since, attempts = flow.attempts, failures = flow.failures,
        open_until = flow.open_until, probe_id = flow.probe_id, probe_until = flow.probe_until,
        in_flight = flow.in_flight, in_flight_until = flow.in_flight_until, share = flow.share
    WHERE destination_id = for_destination;
    RETURN QUERY SELECT unnest(waiters);
END $$;
-- What answers to a destination's questions lead to: while it says nothing, those it is to be asked about wait longer and
-- longer (domain/questions.py). Each question that it answers wakes two more, so that all come within a few rounds and
-- none goes out to a partner that is still away. An answer to something else wakes one, once a minute. Returns the
-- deliveries that were woken, whose `ask_at` is `now`. The caller has locked the row of destination_flow.
--
-- Each of them has a message of its own for the time that it was to wait, so none is lost where the wake-up is.
CREATE FUNCTION note_answers(
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
       AND (flow.roused_at IS NULL OR flow.roused_at <= now - interval '1 minute') THEN
        wanted := 1;
        UPDATE destination_flow SET roused_at = now WHERE destination_id = for_destination;
    END IF;
    IF wanted = 0 THEN
        RETURN;
    END IF;
    WITH next AS (
        SELECT delivery_id
        FROM delivery
        WHERE destination_id = for_destination AND phase = 'unknown' AND ask_at IS NOT NULL AND ask_at > now
          AND ask_silent AND (asking_until IS NULL OR asking_until <= now) AND delivery_id <> ALL (ended)
        ORDER BY delivery_id
        LIMIT wanted
        -- SKIP LOCKED: whoever holds one of these rows locks the row of destination_flow after it.
        FOR UPDATE SKIP LOCKED
    ), changed AS (
        UPDATE delivery SET ask_at = now, ask_silent = NULL
        FROM next WHERE delivery.delivery_id = next.delivery_id
        RETURNING delivery.delivery_id
    )
    SELECT array_agg(delivery_id) INTO woken FROM changed;
    IF woken IS NULL AND answered_questions > 0 AND NOT any_silent THEN
        UPDATE destination_flow SET silent_since = NULL, roused_at = NULL WHERE destination_id = for_destination;
    END IF;
    RETURN QUERY SELECT unnest(woken);
END $$;

-- What an attempt's end does at its destination: its turns are returned, and questions that waited are woken.
CREATE FUNCTION end_attempts(
    for_destination uuid, ended uuid[], failed boolean[], any_silent boolean, answered_questions integer,
    passed_until timestamptz, now timestamptz, quickly boolean
) RETURNS SETOF uuid LANGUAGE sql AS $$
    SELECT return_turns(for_destination, ended, failed, passed_until, now, quickly)
    UNION ALL
    SELECT note_answers(for_destination, ended, any_silent, answered_questions, false = ANY (failed), now)
$$;

-- Whom a record woke to be asked about, where it is run again: their questions are due at its `now`.
CREATE FUNCTION asked_before(for_delivery uuid, now timestamptz) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT waiting.delivery_id
    FROM delivery JOIN destination_flow USING (destination_id)
    JOIN delivery AS waiting ON waiting.destination_id = delivery.destination_id
    WHERE delivery.delivery_id = for_delivery AND silent_since IS NOT NULL
      AND waiting.phase = 'unknown' AND waiting.ask_at = now
$$;

-- A place for a delivery that is to be sent again, where it has none any more: the last one under its ordering key.
CREATE FUNCTION return_to_order(for_destination uuid, key text, for_delivery uuid) RETURNS SETOF uuid
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM take_place(for_destination, key, for_delivery);
    RETURN;
END $$;
