-- Why: people and programs decide about single deliveries: they resolve, cancel, retry and reschedule them, and replay
-- them as new ones.

-- `act_id` is the last act that changed the delivery. An act that is run again, as its connection broke after it
-- committed, sees by it what the first run did.
ALTER TABLE delivery
    ADD COLUMN resolution text
        CONSTRAINT delivery_resolution_known CHECK (resolution IN ('delivered', 'failed', 'again')),
    ADD COLUMN resolved_by text
        CONSTRAINT delivery_resolved_by_somebody CHECK ((resolution IS NULL) = (resolved_by IS NULL)),
    ADD COLUMN resolved_at timestamptz
        CONSTRAINT delivery_resolved_has_time CHECK ((resolution IS NULL) = (resolved_at IS NULL)),
    ADD COLUMN note text,
    ADD COLUMN replay_of uuid,
    ADD COLUMN act_id uuid;

-- A delivery that no longer waits for a slot: it leaves the line, and returns the slot that was passed on to it. Returns
-- those that the slot goes to instead. Its own row is changed before.
CREATE FUNCTION stop_waiting(for_delivery uuid, passed_until timestamptz, now timestamptz) RETURNS SETOF uuid
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM slot_waiter WHERE delivery_id = for_delivery;
    RETURN QUERY
        SELECT return_turns(destination_id, ARRAY [for_delivery], ARRAY [NULL::boolean], passed_until, now)
        FROM delivery JOIN destination_flow USING (destination_id)
        WHERE delivery_id = for_delivery AND for_delivery = ANY (in_flight);
END $$;
