-- Why: a delivery that came just when a turn was due took it from the one that was about to come for it. Who comes new now
-- lines up until the next turn after the last one is due. And where a destination's limits are changed, its line ends and
-- a bucket that would be empty for longer than the new rate takes to fill it is only empty.
CREATE OR REPLACE FUNCTION take_turns(
    for_destination uuid, asking uuid[], leased_until timestamptz, now timestamptz, lines_up boolean
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
        probe_until = flow.probe_until
    WHERE destination_id = for_destination;
END $$;

CREATE OR REPLACE FUNCTION ask_when_accepted(
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
        FROM take_turns(for_destination, ARRAY [for_delivery], leased_until, now, lines_up) AS turn;
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
