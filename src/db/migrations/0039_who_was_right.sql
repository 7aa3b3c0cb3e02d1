-- Why: an answer that came after somebody had resolved its delivery the other way changed only the attempt, and nobody was
-- told; and two who paused a job at once both wrote an entry of the audit log.

-- An attempt that was recorded as unknown is answered late. Where that contradicts what its delivery was resolved as, the
-- audit log says so: the partner acted, though the delivery was resolved as failed; or it had nothing of it, by any of its
-- attempts, though it was resolved as delivered. The decision stands. The id of the entry is a hash of what it is about.
CREATE FUNCTION audit_contradiction() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told record;
BEGIN
    SELECT tenant_id, resolution, resolved_by INTO told
    FROM delivery
    WHERE delivery.delivery_id = NEW.delivery_id
      AND (resolution = 'failed' AND NEW.outcome = 'answered' AND NEW.status / 100 = 2
           OR resolution = 'delivered' AND NOT EXISTS (
                SELECT FROM attempt AS made
                WHERE made.delivery_id = NEW.delivery_id AND made.kind = 'send'
                  AND (leaves_open(made.outcome, made.status) OR coalesce(made.status / 100 = 2, false))));
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM append_audit(told.tenant_id, clock_timestamp(), format(
        '{"by":"an answer that came late","details":{"attempt":%s,"outcome":"%s","resolution":"%s","resolved_by":"%s",'
        '"status":%s},"entry_id":"%s","members":[],"on":"%s","source_address":null,"tenant_id":"%s",'
        '"what":"delivery.contradicted"}',
        NEW.number, NEW.outcome, told.resolution, told.resolved_by, coalesce(NEW.status::text, 'null'),
        encode(substr(sha256(convert_to('contradicted ' || NEW.attempt_id, 'UTF8')), 1, 16), 'hex')::uuid,
        NEW.delivery_id, told.tenant_id));
    RETURN NULL;
END $$;
CREATE TRIGGER audit_contradiction AFTER UPDATE OF outcome ON attempt
    FOR EACH ROW WHEN (OLD.outcome = 'unknown' AND NEW.outcome <> 'unknown' AND NEW.kind = 'send')
    EXECUTE FUNCTION audit_contradiction();

-- Which call brought a job into its state: of two at once, one did.
ALTER TABLE job ADD COLUMN move_id uuid;
GRANT UPDATE (move_id) ON job TO sallyport_app;
