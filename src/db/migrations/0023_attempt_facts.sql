-- Why: an attempt is sealed by a text that PostgreSQL makes and hashes where the rows are: the worker that reads them to
-- make it took a fifth of the instructions that making the attempt takes.

-- Canonical JSON (RFC 8785) of what is sealed of an attempt: what was sent and what came back by their hashes, so that
-- nothing that is deleted later changes it. to_json escapes what JSON requires, and nothing else.
CREATE FUNCTION attempt_facts(made attempt, sent bytea) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        '{"attempt_id":"%s","delivery_id":"%s","egress_address":%s,"kind":%s,"number":%s,"outcome":"%s","reason":%s,'
        '"remote_address":%s,"response_headers_sha256":%s,"response_length":%s,"response_sha256":%s,"sent_sha256":"%s",'
        '"started_at":"%s","status":%s}',
        made.attempt_id, made.delivery_id, coalesce('"' || host(made.egress_address) || '"', 'null'),
        coalesce(to_json(made.kind)::text, 'null'), made.number, made.outcome,
        coalesce(to_json(made.reason)::text, 'null'), coalesce('"' || host(made.remote_address) || '"', 'null'),
        coalesce('"' || encode(coalesce(made.headers_sha256, sha256(convert_to(made.response_headers::text, 'UTF8'))),
                               'hex') || '"', 'null'),
        coalesce(made.response_length::text, 'null'),
        coalesce('"' || encode(made.response_sha256, 'hex') || '"', 'null'), encode(sent, 'hex'),
        to_char(made.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        coalesce(made.status::text, 'null'))
$$;
