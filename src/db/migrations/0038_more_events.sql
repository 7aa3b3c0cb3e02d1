-- Why: another destination of the tenant is told, too, when a circuit breaker has opened, and before a client certificate
-- ends.

-- Which certificate was told of last, and how many days before its end: `<sha256>-<days>`. Empty where none was.
ALTER TABLE destination ADD COLUMN certificate_told text;
GRANT SELECT (certificate_told) ON destination TO sallyport_readonly;
GRANT UPDATE (certificate_told) ON destination TO sallyport_app;

-- As end_attempts, and tells by `told_event` that the breaker has opened, where it has with these attempts. A probe that
-- fails opens nothing: the breaker is still open.
CREATE FUNCTION end_attempts_and_tell(
    for_destination uuid, ended uuid[], failed boolean[], any_silent boolean, answered_questions integer,
    passed_until timestamptz, now timestamptz, quickly boolean, told_event uuid
) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    open_before timestamptz;
    open_after timestamptz;
BEGIN
    SELECT flow.open_until INTO open_before
    FROM destination_flow AS flow WHERE flow.destination_id = for_destination FOR UPDATE;
    RETURN QUERY SELECT end_attempts(
        for_destination, ended, failed, any_silent, answered_questions, passed_until, now, quickly);
    SELECT flow.open_until INTO open_after FROM destination_flow AS flow WHERE flow.destination_id = for_destination;
    IF open_before IS NULL AND open_after IS NOT NULL THEN
        PERFORM tell(
            for_destination, told_event, 'circuit_breaker.opened',
            replace(for_destination::text, '-', '') || '-opened-' || replace(told_event::text, '-', ''), now,
            json_build_object(
                'destination_id', for_destination,
                'destination', (SELECT coalesce(deleted_name, name) FROM destination
                                WHERE destination.destination_id = for_destination),
                'open_until', to_char(open_after AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
    END IF;
END $$;

-- Tells that the certificate of a destination ends in `days` or sooner, where it still is the one with this hash and that
-- was not told. Whether it told.
CREATE FUNCTION tell_certificate(for_destination uuid, told_event uuid, sha256 text, days integer, now timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    told text := sha256 || '-' || days;
    facts json;
BEGIN
    UPDATE destination SET certificate_told = told
    WHERE destination_id = for_destination AND options #>> '{certificate,sha256}' = sha256
      AND options ? 'events_to' AND deleted_at IS NULL AND certificate_told IS DISTINCT FROM told
    RETURNING json_build_object(
        'destination_id', destination_id, 'destination', name, 'days', days,
        'not_after', to_char((options #>> '{certificate,not_after}')::timestamptz AT TIME ZONE 'UTC',
                             'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'subject', options #>> '{certificate,subject}', 'serial_number', options #>> '{certificate,serial_number}',
        'sha256', sha256) INTO facts;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM tell(
        for_destination, told_event, 'certificate.expiring', replace(for_destination::text, '-', '') || '-' || told, now,
        facts);
    RETURN true;
END $$;
