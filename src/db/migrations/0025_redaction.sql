-- Why: a destination says what of requests and responses is never stored beyond the end of a delivery.

-- Whatever ends a delivery whose destination redacts (options, `redact`), the values of the headers that it names go, and
-- with pointers the body: nothing shows it, and what is not whole is never sent again. What is unknown may yet be sent
-- again, and is redacted when it is resolved. Where nothing of it is to be redacted it stays whole.
CREATE FUNCTION redact_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    redaction jsonb;
    any_gone boolean := false;
    left_headers jsonb;
BEGIN
    SELECT options -> 'redact' INTO redaction FROM destination WHERE destination_id = NEW.destination_id;
    IF redaction IS NULL THEN
        RETURN NULL;
    END IF;
    IF jsonb_array_length(redaction -> 'pointers') > 0 THEN
        DELETE FROM delivery_body WHERE delivery_id = NEW.delivery_id AND body <> '';
        any_gone := FOUND;
    END IF;
    SELECT coalesce(jsonb_agg(CASE WHEN named THEN jsonb_set(field, '{1}', '"redacted"') ELSE field END
                              ORDER BY position), '[]'),
           any_gone OR coalesce(bool_or(named), false)
    INTO left_headers, any_gone
    FROM jsonb_array_elements(NEW.headers) WITH ORDINALITY AS listed (field, position)
    CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM jsonb_array_elements_text(redaction -> 'headers') AS name
                       WHERE lower(name) = lower(field ->> 0)) AS named
    ) AS compared;
    IF any_gone THEN
        UPDATE delivery SET payload = 'redacted', headers = left_headers WHERE delivery_id = NEW.delivery_id;
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION redact_ended FROM PUBLIC;

-- An attempt is what ends most deliveries: only what it was made for by a destination that redacts (`redacts`) is looked
-- at, so that the others do not look for their destination.
ALTER TABLE delivery ADD COLUMN redacts boolean;
CREATE TRIGGER redact_ended AFTER UPDATE ON delivery FOR EACH ROW
    WHEN (NEW.phase IN ('delivered', 'failed', 'canceled') AND NEW.phase <> OLD.phase AND NEW.payload IS NULL
          AND (OLD.state <> 'sending' OR NEW.redacts))
    EXECUTE FUNCTION redact_ended();
