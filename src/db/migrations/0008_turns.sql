-- Why: what the limits of a destination leave is shared by all workers, and a destination that occupies workers for long
-- may not take all of them. The tables are those of 0005_flow.sql.

-- From when on an attempt takes long (SLOW_SECONDS of domain/limits.py).
CREATE FUNCTION slow_after() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '3 seconds' $$;

-- Which of the deliveries `asking` may be sent to a destination now: those without a reason. They get what they need of
-- its rate, its slots and its circuit breaker; the others are told when to ask again, as far as that is known.
--
-- The lock comes first. Every statement of the function reads what has been committed by then, so that all that follows
-- is true until the lock is released with the end of the transaction. Whoever locks several rows of destination_flow
-- does it in the order of the ids, and after those of `delivery`.
--
-- Who has to wait gets a turn behind all others who have one, so that it asks again once, and not with all of them; who
-- does not line up is only told when that would be. The line is not waited for where the bucket has been full for two
-- seconds: nobody seems to take those turns.
--
-- A worker passes its `lease` and the `usual_share` of workers for one destination; who sends at once has neither. The
-- share limits destinations that have one (note_slow) and whose concurrency is not set: in that case the tenant decides.
CREATE FUNCTION take_turns(
    for_destination uuid, asking uuid[], lease uuid, leased_until timestamptz, usual_share integer, now timestamptz,
    lines_up boolean
) RETURNS TABLE (delivery_id uuid, reason text, until timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    flow destination_flow;
    limits record;
    asks record;
    taken integer := 0;
    turn interval;
    next_token timestamptz;
    line_is_live boolean;
    is_shared boolean;
    workers record;
BEGIN
    SELECT * INTO flow FROM destination_flow WHERE destination_id = for_destination FOR UPDATE;
    SELECT found.* INTO limits
    FROM destination, limits_of(options) AS found WHERE destination_id = for_destination;
    IF limits.failure_ratio IS NULL THEN
        flow.open_until := NULL;
        flow.probe_id := NULL;
        flow.probe_until := NULL;
    END IF;
    turn := make_interval(secs => coalesce(1 / limits.rate, 0.05));
    line_is_live := flow.line_until + turn > now AND flow.full_at > now - interval '2 seconds';
    flow.full_at := greatest(flow.full_at, now);
    -- Beyond what clocks differ by, it is from a slower rate before.
    IF flow.full_at > now + make_interval(secs => limits.burst / limits.rate + 60) THEN
        flow.full_at := now + make_interval(secs => limits.burst / limits.rate);
    END IF;
    SELECT coalesce(array_agg(held.id), '{}'), coalesce(array_agg(held.until), '{}')
    INTO flow.in_flight, flow.in_flight_until
    FROM unnest(flow.in_flight, flow.in_flight_until) AS held (id, until)
    WHERE held.until > now;
    is_shared := flow.share IS NOT NULL AND limits.concurrency IS NULL AND lease IS NOT NULL;
    SELECT count(DISTINCT lease_id) AS all_of_it,
           count(DISTINCT lease_id) FILTER (WHERE begun_at <= now - slow_after()) AS slow
    INTO workers
    FROM attempt_under_way
    WHERE is_shared AND destination_id = for_destination AND lease_id <> lease
      AND attempt_under_way.leased_until > now;
    IF workers.slow >= usual_share THEN
        flow.share := usual_share;
    END IF;

    FOR asks IN
        SELECT delivery_id, state, waiting_for, waits_until, delivery_id = ANY (flow.in_flight) AS has_slot,
               delivery_id = ANY (flow.in_flight) OR waiting_for = 'concurrency' IS TRUE
               OR (waiting_for IN ('rate_limit', 'circuit_breaker') AND waits_until <= now) IS TRUE AS has_come
        FROM unnest(asking) AS asker (delivery_id) LEFT JOIN delivery USING (delivery_id)
        ORDER BY has_slot DESC, has_come DESC, delivery_id
    LOOP
        delivery_id := asks.delivery_id;
        until := NULL;
        next_token := flow.full_at - make_interval(secs => (limits.burst - 1) / limits.rate);
        IF flow.open_until > now OR flow.probe_until > now THEN
            reason := 'circuit_breaker';
            flow.line_until := greatest(flow.line_until, flow.open_until, now);
        ELSIF next_token > now OR limits.rate IS NOT NULL AND line_is_live AND NOT asks.has_come THEN
            reason := 'rate_limit';
            flow.line_until := greatest(flow.line_until, next_token - turn, now);
        ELSIF NOT asks.has_slot AND cardinality(flow.in_flight) >= limits.concurrency THEN
            reason := 'concurrency';
        ELSIF is_shared AND workers.all_of_it >= flow.share THEN
            reason := 'concurrency';
        ELSE
            reason := NULL;
            taken := taken + 1;
            -- Rounded up to microseconds, so that the sum never falls behind the rate.
            flow.full_at := flow.full_at + make_interval(secs => coalesce(ceil(1e6 / limits.rate) / 1e6, 0));
            IF flow.open_until IS NOT NULL THEN
                flow.probe_id := asks.delivery_id;
                flow.probe_until := leased_until;
            END IF;
        END IF;

        IF asks.has_slot THEN
            flow.in_flight_until[array_position(flow.in_flight, asks.delivery_id)] :=
                CASE WHEN reason IS NULL THEN leased_until ELSE now END;  -- who cannot use it gives it back
        ELSIF reason IS NULL AND limits.concurrency IS NOT NULL THEN
            flow.in_flight := flow.in_flight || asks.delivery_id;
            flow.in_flight_until := flow.in_flight_until || leased_until;
        END IF;
        IF reason IS NULL AND is_shared THEN
            INSERT INTO attempt_under_way VALUES (for_destination, asks.delivery_id, lease, now, leased_until)
            ON CONFLICT ON CONSTRAINT attempt_under_way_pkey DO UPDATE
            SET lease_id = EXCLUDED.lease_id, begun_at = EXCLUDED.begun_at, leased_until = EXCLUDED.leased_until;
        END IF;
        IF reason IN ('circuit_breaker', 'rate_limit') THEN
            IF asks.waiting_for IN ('rate_limit', 'circuit_breaker') AND asks.waits_until > now
               AND asks.waits_until <= flow.line_until THEN
                until := asks.waits_until;  -- it asks before its turn, which it keeps
            ELSE
                until := flow.line_until + turn;
                flow.line_until := CASE WHEN lines_up THEN until ELSE flow.line_until END;
            END IF;
        END IF;
        IF reason = 'concurrency' AND asks.state IS NOT NULL THEN
            INSERT INTO slot_waiter VALUES (for_destination, asks.delivery_id) ON CONFLICT DO NOTHING;
        ELSIF asks.waiting_for = 'concurrency' THEN
            DELETE FROM slot_waiter WHERE destination_id = for_destination AND slot_waiter.delivery_id = asks.delivery_id;
        END IF;
        RETURN NEXT;
    END LOOP;

    UPDATE destination_flow
    SET full_at = flow.full_at, line_until = flow.line_until, in_flight = flow.in_flight,
        in_flight_until = flow.in_flight_until, open_until = flow.open_until, probe_id = flow.probe_id,
        probe_until = flow.probe_until, share = flow.share
    WHERE destination_id = for_destination;
END $$;

-- Notes that attempts of one lease, which began at `begun_at`, take long: the destination may then occupy `usual_share`
-- workers in all. It gets more as soon as its attempts end quickly.
CREATE FUNCTION note_slow(
    for_destination uuid, slow uuid[], lease uuid, begun_at timestamptz, usual_share integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM destination_flow WHERE destination_id = for_destination FOR UPDATE;
    INSERT INTO attempt_under_way
    SELECT for_destination, delivery_id, lease_id, note_slow.begun_at, leased_until
    FROM delivery
    WHERE delivery_id = ANY (slow) AND state = 'sending' AND lease_id = lease  -- and has not ended since
    ON CONFLICT ON CONSTRAINT attempt_under_way_pkey DO NOTHING;
    UPDATE destination_flow SET share = least(share, usual_share)
    WHERE destination_id = for_destination
      AND EXISTS (SELECT FROM attempt_under_way WHERE destination_id = for_destination);
END $$;

-- Returns what attempts took of a destination, and counts them for its circuit breaker. `failed` is empty of those that
-- say nothing about the partner. Returns the deliveries that a free slot is passed on to, those that have waited longest;
-- nobody else gets these slots before `passed_until`.
--
-- The breaker's window begins with a failure, and counts all attempts until it ends. Open, it counts nothing: only the
-- outcome of its probe decides.
--
-- What a destination with a share has ended is no longer under way. Where it ended quickly, one worker more may attempt
-- it; and as many as there are, once nothing takes long and nobody waits.
CREATE FUNCTION return_turns(
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
            WHERE slot_waiter.destination_id = for_destination AND delivery.state = 'pending'
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
                WHERE slot_waiter.destination_id = for_destination AND delivery.state = 'pending'
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

-- What a delivery is told that is accepted now. With `at_once` it takes what it needs, unless its key came before: then
-- another one is told what became of that. Otherwise it is told what it will have to wait for, as far as that shows.
CREATE FUNCTION ask_when_accepted(
    for_destination uuid, key text, order_of text, for_delivery uuid, at_once boolean, lines_up boolean,
    leased_until timestamptz, now timestamptz
) RETURNS wait LANGUAGE plpgsql AS $$
DECLARE
    answer wait;
    is_repeat boolean;
BEGIN
    SELECT EXISTS (
        SELECT FROM delivery
        WHERE delivery.tenant_id = destination.tenant_id AND delivery.idempotency_key = key
    ) INTO is_repeat
    FROM destination WHERE destination_id = for_destination;
    answer := hold_of(for_destination, order_of, for_delivery, now);
    IF is_repeat THEN
        RETURN NULL;
    ELSIF answer.reason IS NOT NULL THEN
        RETURN answer;
    ELSIF at_once THEN
        SELECT turn.reason, turn.until INTO answer
        FROM take_turns(for_destination, ARRAY [for_delivery], NULL, leased_until, NULL, now, lines_up) AS turn;
    ELSE
        SELECT CASE WHEN limits.failure_ratio IS NOT NULL AND (flow.open_until > now OR flow.probe_until > now)
                    THEN 'circuit_breaker'
                    WHEN flow.line_until + make_interval(secs => 1 / limits.rate) > now
                         AND flow.full_at > now - interval '2 seconds'
                         OR extract(epoch FROM greatest(flow.full_at, now) - now) * limits.rate > limits.burst - 1
                    THEN 'rate_limit'
                    WHEN (SELECT count(*) FROM unnest(flow.in_flight_until) AS until WHERE until > now)
                         >= limits.concurrency
                    THEN 'concurrency' END
        INTO answer.reason
        FROM destination_flow AS flow JOIN destination USING (destination_id)
        CROSS JOIN limits_of(options) AS limits
        WHERE destination_id = for_destination;
        IF answer.reason = 'rate_limit' THEN
            SELECT greatest(nullif(flow.line_until, '-infinity') + make_interval(secs => 1 / limits.rate),
                            flow.full_at - make_interval(secs => (limits.burst - 1) / limits.rate), now)
            INTO answer.until
            FROM destination_flow AS flow JOIN destination USING (destination_id)
            CROSS JOIN limits_of(options) AS limits
            WHERE destination_id = for_destination;
        ELSIF answer.reason = 'circuit_breaker' THEN
            SELECT greatest(flow.open_until, now) INTO answer.until
            FROM destination_flow AS flow WHERE destination_id = for_destination;
        END IF;
    END IF;
    RETURN answer;
END $$;
