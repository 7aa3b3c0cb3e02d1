-- Why: another destination of the tenant is told when a delivery ends, and when its destination is paused or disabled. Code
-- that does not know of it says no id for an event, and then nobody is told.

-- `event_id` is the delivery that tells of the last end of this one. `event` is what a delivery tells of, empty where it is
-- not an event.
ALTER TABLE delivery
    ADD COLUMN event_id uuid,
    ADD COLUMN event text;
ALTER TABLE destination ADD COLUMN event_id uuid;

-- Stores an event as a delivery to the destination that another one names, unless that was deleted or takes no new ones.
-- An event with the same key that is there already stays as it is.
CREATE FUNCTION tell(
    about uuid, event_id uuid, event text, key text, moment timestamptz, facts json
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    told record;
    content bytea := convert_to(json_build_object(
        'type', event, 'timestamp', to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'data', facts
    )::text, 'UTF8');
BEGIN
    SELECT receiver.destination_id, receiver.tenant_id, receiver.options INTO told
    FROM destination AS sender JOIN destination AS receiver
         ON receiver.destination_id = (sender.options ->> 'events_to')::uuid AND receiver.tenant_id = sender.tenant_id
    WHERE sender.destination_id = about AND receiver.deleted_at IS NULL AND receiver.state <> 'disabled';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO delivery (
        delivery_id, tenant_id, destination_id, idempotency_key, fingerprint, method, path, query, headers, metadata,
        state, attempts_made, attempts_allowed, due_at, created_at, give_up_at, event)
    VALUES (
        event_id, told.tenant_id, told.destination_id, 'sallyport-event-' || key, sha256(content), 'POST', '', '',
        '[["Content-Type", "application/json"]]', '{}', 'pending', 0,
        CASE WHEN jsonb_typeof(told.options #> '{retry,schedule}') = 'array'
             THEN jsonb_array_length(told.options #> '{retry,schedule}') ELSE 10 END,
        moment, moment,
        moment + make_interval(secs => (told.options #>> '{retry,give_up_after}')::double precision), event)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        INSERT INTO delivery_body (delivery_id, body) VALUES (event_id, content);
    END IF;
END $$;

-- Triggers, so that the event is in the transaction of what it tells of, whichever statement that is. Without an
-- `event_id` they do nothing, and of an event nobody is told.
CREATE FUNCTION tell_end() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    resolved boolean := NEW.resolution IN ('delivered', 'failed') AND NEW.resolved_at = NEW.finished_at;
    kind text := CASE WHEN resolved THEN 'resolved' ELSE NEW.state END;
    last_attempt record;
BEGIN
    SELECT outcome, status INTO last_attempt
    FROM attempt WHERE attempt.delivery_id = NEW.delivery_id AND attempt.kind = 'send' ORDER BY number DESC LIMIT 1;
    PERFORM tell(
        NEW.destination_id, NEW.event_id, 'delivery.' || kind,
        replace(NEW.delivery_id::text, '-', '') || '-' || NEW.attempts_made || '-' || kind, NEW.finished_at,
        json_build_object(
            'delivery_id', NEW.delivery_id, 'destination_id', NEW.destination_id,
            'destination', (SELECT coalesce(deleted_name, name) FROM destination
                            WHERE destination.destination_id = NEW.destination_id),
            'state', NEW.state, 'idempotency_key', NEW.idempotency_key, 'ordering_key', NEW.ordering_key,
            'attempts_made', NEW.attempts_made, 'outcome', last_attempt.outcome, 'status', last_attempt.status,
            'resolved_by', CASE WHEN resolved THEN NEW.resolved_by END,
            'created_at', to_char(NEW.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
    RETURN NULL;
END $$;
CREATE TRIGGER tell_end AFTER UPDATE OF event_id ON delivery FOR EACH ROW
    WHEN (NEW.event_id IS DISTINCT FROM OLD.event_id AND NEW.event_id IS NOT NULL AND NEW.event IS NULL
          AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION tell_end();

CREATE FUNCTION tell_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell(
        NEW.destination_id, NEW.event_id, 'destination.' || NEW.state,
        replace(NEW.destination_id::text, '-', '') || '-' || NEW.version || '-' || NEW.state, NEW.state_changed_at,
        json_build_object(
            'destination_id', NEW.destination_id, 'destination', NEW.name, 'state', NEW.state,
            'state_reason', NEW.state_reason, 'state_changed_by', NEW.state_changed_by));
    RETURN NULL;
END $$;
CREATE TRIGGER tell_state AFTER UPDATE OF event_id ON destination FOR EACH ROW
    WHEN (NEW.event_id IS DISTINCT FROM OLD.event_id AND NEW.event_id IS NOT NULL AND NEW.state <> OLD.state
          AND NEW.state IN ('paused', 'disabled') AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION tell_state();

GRANT SELECT (event_id) ON destination TO sallyport_readonly;
GRANT UPDATE (event_id) ON destination TO sallyport_app;
