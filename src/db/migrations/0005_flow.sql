-- Why: what is sent to a destination is limited by rates, concurrency, circuit breakers and sending windows, and ordering
-- keys put deliveries one behind the other. Code that does not know these tables and functions sends without them.

-- What must be true for all workers at once is in one row for each destination, which whoever takes from it locks. A
-- plain destination, whose circuit breaker is closed and counts nothing, is only read.
CREATE TABLE destination_flow (
    destination_id  uuid          NOT NULL,
    -- The rate, as a token bucket of which only this moment is stored: when it is full again.
    full_at         timestamptz   NOT NULL DEFAULT '-infinity',
    -- Until when turns have been given to deliveries that wait; the next one comes after it.
    line_until      timestamptz   NOT NULL DEFAULT '-infinity',
    -- Concurrency: which deliveries have a slot, each until its lease ends, or until it must have come for its slot.
    in_flight       uuid[]        NOT NULL DEFAULT '{}',
    in_flight_until timestamptz[] NOT NULL DEFAULT '{}',
    -- The circuit breaker: attempts since the first failure of the window, and how many of them failed. Closed where
    -- open_until is empty, half-open when it has passed; then one delivery is the probe, until its lease ends.
    counted_since   timestamptz,
    attempts        integer       NOT NULL DEFAULT 0,
    failures        integer       NOT NULL DEFAULT 0,
    open_until      timestamptz,
    probe_id        uuid,
    probe_until     timestamptz,
    -- How many workers may attempt it at once, if it has occupied one for long; else empty. See attempt_under_way.
    share           integer,
    CONSTRAINT destination_flow_pkey PRIMARY KEY (destination_id),
    CONSTRAINT destination_flow_destination_exists
        FOREIGN KEY (destination_id) REFERENCES destination ON DELETE CASCADE,
    CONSTRAINT destination_flow_share_positive CHECK (share > 0),
    CONSTRAINT destination_flow_slots_paired CHECK (cardinality(in_flight) = cardinality(in_flight_until)),
    CONSTRAINT destination_flow_probe_while_open CHECK (
        (probe_id IS NULL) = (probe_until IS NULL) AND (probe_id IS NULL OR open_until IS NOT NULL))
    -- Room for new versions on the page, and 200 slots (4.8 KB) in the row itself.
) WITH (fillfactor = 50, toast_tuple_target = 8160);

-- Each destination has its row, whichever release created it.
CREATE FUNCTION destination_flow_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO destination_flow (destination_id) VALUES (NEW.destination_id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER destination_flow_begins AFTER INSERT ON destination
    FOR EACH ROW EXECUTE FUNCTION destination_flow_begins();
INSERT INTO destination_flow (destination_id) SELECT destination_id FROM destination ON CONFLICT DO NOTHING;

-- Who waits for a slot, the oldest first. A table and no index on `delivery`: an attempt changes no indexed column.
CREATE TABLE slot_waiter (
    destination_id uuid NOT NULL,
    delivery_id    uuid NOT NULL,
    CONSTRAINT slot_waiter_pkey PRIMARY KEY (destination_id, delivery_id),
    CONSTRAINT slot_waiter_delivery_exists FOREIGN KEY (delivery_id) REFERENCES delivery ON DELETE CASCADE
);
CREATE INDEX slot_waiter_by_delivery ON slot_waiter (delivery_id);

-- Attempts that take long, and of a destination with a share all, until they end: each batch is one worker's.
CREATE TABLE attempt_under_way (
    destination_id uuid        NOT NULL,
    delivery_id    uuid        NOT NULL,
    lease_id       uuid        NOT NULL,
    begun_at       timestamptz NOT NULL,
    leased_until   timestamptz NOT NULL,
    CONSTRAINT attempt_under_way_pkey PRIMARY KEY (destination_id, delivery_id),
    CONSTRAINT attempt_under_way_delivery_exists FOREIGN KEY (delivery_id) REFERENCES delivery ON DELETE CASCADE
);
CREATE INDEX attempt_under_way_by_delivery ON attempt_under_way (delivery_id);

-- The places of deliveries with an ordering key, from their acceptance until they no longer hold back those behind them.
CREATE TABLE ordering_place (
    destination_id uuid   NOT NULL,
    ordering_key   text   NOT NULL,
    place          bigint NOT NULL,
    delivery_id    uuid   NOT NULL,
    CONSTRAINT ordering_place_pkey PRIMARY KEY (destination_id, ordering_key, place),
    CONSTRAINT ordering_place_of_delivery UNIQUE (delivery_id),
    CONSTRAINT ordering_place_key_length CHECK (char_length(ordering_key) BETWEEN 1 AND 200),
    CONSTRAINT ordering_place_delivery_exists FOREIGN KEY (delivery_id) REFERENCES delivery ON DELETE CASCADE
);
CREATE SEQUENCE ordering_place_number AS bigint;

-- What a pending delivery waits for besides its time, and until when; that is empty where nobody knows.
ALTER TABLE delivery
    ADD COLUMN ordering_key text,
    ADD COLUMN waiting_for text,
    ADD COLUMN waits_until timestamptz;

-- The first moment at which a clock in that zone shows `shown` or later. An hour that comes twice counts the first time;
-- a time that is skipped is the moment of the change. Away from changes all three candidates are the same moment.
CREATE FUNCTION first_moment(shown timestamp, zone text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN earliest = latest THEN earliest ELSE (
        SELECT min(moment) FROM generate_series(earliest, latest, interval '1 minute') AS moment
        WHERE moment AT TIME ZONE zone >= shown) END
    FROM (
        SELECT least(exact, by_the_offset_before, by_the_offset_after) AS earliest,
               greatest(exact, by_the_offset_before, by_the_offset_after) AS latest
        FROM (
            SELECT exact,
                   exact + (shown - (exact - interval '24 hours') AT TIME ZONE zone - interval '24 hours')
                       AS by_the_offset_before,
                   exact + (shown - (exact + interval '24 hours') AT TIME ZONE zone + interval '24 hours')
                       AS by_the_offset_after
            FROM (SELECT shown AT TIME ZONE zone AS exact) AS converted
        ) AS candidate
    ) AS bounds
$$;

-- When one of the sending windows is open next: `since` itself where one is. A window is open from the first moment at
-- which the clock shows its beginning until the first at which it shows its end, so once a day at most. Fifteen days
-- have each weekday twice, should a window not open on the first. Empty where the database no longer knows the zone.
CREATE FUNCTION next_opening(windows jsonb, since timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT min(greatest(opening, since))
        FROM jsonb_to_recordset(windows) AS listed (days jsonb, opens time, closes time, time_zone text)
        CROSS JOIN generate_series(-1, 15) AS ahead
        CROSS JOIN LATERAL (SELECT (since AT TIME ZONE time_zone)::date + ahead AS day) AS local
        CROSS JOIN LATERAL (
            SELECT first_moment(day + opens, time_zone) AS opening,
                   first_moment(day + closes + CASE WHEN closes > opens THEN interval '0' ELSE interval '1 day' END,
                                time_zone) AS closing
        ) AS moments
        WHERE days @> to_jsonb(extract(isodow FROM day)::integer) AND closing > since AND opening < closing
    );
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN NULL;
END $$;

-- The limits of a destination, out of its options (domain/limits.py). Empty where one is not set; a circuit breaker that
-- is not enabled has no failure ratio.
CREATE FUNCTION limits_of(
    options jsonb, OUT rate double precision, OUT burst integer, OUT concurrency integer,
    OUT failure_ratio double precision, OUT minimum_attempts integer, OUT window_length interval,
    OUT open_length interval
) LANGUAGE sql IMMUTABLE AS $$
    SELECT (options #>> '{limits,rate}')::double precision,
           (options #>> '{limits,burst}')::integer,
           (options #>> '{limits,concurrency}')::integer,
           CASE WHEN coalesce((options #>> '{circuit_breaker,enabled}')::boolean, true)
                THEN coalesce((options #>> '{circuit_breaker,failure_ratio}')::double precision, 0.9) END,
           coalesce((options #>> '{circuit_breaker,minimum_attempts}')::integer, 20),
           make_interval(secs => coalesce((options #>> '{circuit_breaker,window_seconds}')::integer, 60)),
           make_interval(secs => coalesce((options #>> '{circuit_breaker,open_seconds}')::integer, 30))
$$;

-- Takes a place behind all that have one under the same ordering key. The lock lasts until the end of the transaction:
-- so places are given in the order of the commits, and whoever sees a place sees all that are before it.
CREATE FUNCTION take_place(for_destination uuid, key text, for_delivery uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(for_destination || key, 0));
    INSERT INTO ordering_place (destination_id, ordering_key, place, delivery_id)
    VALUES (for_destination, key, nextval('ordering_place_number'), for_delivery)
    ON CONFLICT ON CONSTRAINT ordering_place_of_delivery DO NOTHING;  -- it has one where the statement is run again
END $$;

-- Whether others with the same ordering key have to go first: those before the place of `for_delivery`, or all where it
-- has none yet. Where the destination skips failures, those that have ended hold back nobody. What has ended stays so,
-- and what is before a place is seen by whoever sees that place: so the answer is right whatever others do meanwhile.
CREATE FUNCTION is_held_back(for_destination uuid, options jsonb, key text, for_delivery uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM ordering_place AS earlier JOIN delivery AS ahead USING (delivery_id)
        WHERE earlier.destination_id = for_destination AND earlier.ordering_key = key
          AND earlier.place < coalesce(
              (SELECT own.place FROM ordering_place AS own WHERE own.delivery_id = for_delivery), 9223372036854775807)
          AND (ahead.phase = 'open' OR options #>> '{ordering,after_failure}' IS DISTINCT FROM 'skip'))
$$;

-- Gives up the place of a delivery that has come to `phase`, if it holds back nobody then, and returns who goes next.
CREATE FUNCTION leave_place(for_destination uuid, key text, for_delivery uuid, phase text) RETURNS SETOF uuid
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
        SELECT ordering_place.delivery_id
        FROM ordering_place JOIN delivery USING (delivery_id)
        WHERE ordering_place.destination_id = for_destination AND ordering_place.ordering_key = key
          AND delivery.phase = 'open' AND ordering_place.delivery_id <> for_delivery
        ORDER BY ordering_place.place
        LIMIT 1;
END $$;

-- Whom the end of a delivery woke when it was recorded, for a record that is run again.
CREATE FUNCTION woken_before(for_delivery uuid, passed_until timestamptz) RETURNS SETOF uuid LANGUAGE sql AS $$
    SELECT held.id
    FROM delivery JOIN destination_flow USING (destination_id)
    CROSS JOIN unnest(in_flight, in_flight_until) AS held (id, until)
    WHERE delivery_id = for_delivery AND held.until = passed_until
    UNION (
        SELECT slot_waiter.delivery_id
        FROM delivery AS ended JOIN destination_flow USING (destination_id) JOIN slot_waiter USING (destination_id)
        JOIN delivery AS waiting ON waiting.delivery_id = slot_waiter.delivery_id
        WHERE ended.delivery_id = for_delivery AND share IS NOT NULL AND waiting.state = 'pending'
        ORDER BY slot_waiter.delivery_id
        LIMIT 10)
    UNION
    SELECT leave_place(destination_id, ordering_key, delivery_id, phase)
    FROM delivery WHERE delivery_id = for_delivery AND ordering_key IS NOT NULL
$$;

-- The first delivery that still has a place under an ordering key; empty where none has.
CREATE FUNCTION first_in_order(for_destination uuid, key text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT delivery_id FROM ordering_place
    WHERE destination_id = for_destination AND ordering_key = key
    ORDER BY place
    LIMIT 1
$$;

-- What holds a delivery back by itself, whatever other workers take at this moment; an empty reason where nothing does.
CREATE TYPE wait AS (reason text, until timestamptz);
CREATE FUNCTION hold_of(for_destination uuid, order_of text, for_delivery uuid, now timestamptz) RETURNS wait
LANGUAGE plpgsql STABLE AS $$
DECLARE
    called destination;
    opens_at timestamptz := now;
BEGIN
    SELECT * INTO called FROM destination WHERE destination_id = for_destination;
    IF called.options ? 'windows' THEN
        opens_at := next_opening(called.options -> 'windows', now);
    END IF;
    RETURN CASE WHEN called.state <> 'active' THEN ROW ('destination_' || called.state, NULL)::wait
                WHEN order_of IS NOT NULL AND is_held_back(for_destination, called.options, order_of, for_delivery)
                THEN ROW ('ordering', NULL)::wait
                WHEN opens_at IS DISTINCT FROM now THEN ROW ('sending_window', opens_at)::wait END;
END $$;

GRANT SELECT, INSERT, UPDATE ON destination_flow TO sallyport_app;
GRANT SELECT, INSERT, DELETE ON slot_waiter, ordering_place TO sallyport_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON attempt_under_way TO sallyport_app;
GRANT USAGE ON SEQUENCE ordering_place_number TO sallyport_app;
GRANT SELECT ON destination_flow, slot_waiter, attempt_under_way, ordering_place TO sallyport_readonly;
