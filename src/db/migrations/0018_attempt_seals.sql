-- Why: attempts are sealed into the audit log by intervals, off the path on which they are made. Code that does not know
-- of it records attempts that are sealed all the same. Those that were recorded before are not.

-- The transaction that wrote the attempt. All that one has written is there once no older one runs any more
-- (pg_snapshot_xmin), so an interval of numbers, unlike one of time, is complete when it is read.
ALTER TABLE attempt
    ADD COLUMN recorded_in bigint,
    -- The hash of the headers of a response, from when they are deleted.
    ADD COLUMN headers_sha256 bytea;
ALTER TABLE attempt ALTER COLUMN recorded_in SET DEFAULT pg_current_xact_id()::text::bigint;

-- What is deleted of a response leaves its hash behind, whichever statement deletes it.
CREATE FUNCTION keep_headers_hash() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.headers_sha256 := coalesce(OLD.headers_sha256, sha256(convert_to(OLD.response_headers::text, 'UTF8')));
    RETURN NEW;
END $$;
CREATE TRIGGER keep_headers_hash BEFORE UPDATE OF response_headers ON attempt
    FOR EACH ROW WHEN (OLD.response_headers IS DISTINCT FROM NEW.response_headers AND OLD.response_headers IS NOT NULL)
    EXECUTE FUNCTION keep_headers_hash();

-- A sealed interval of one tenant: the hashes of its attempts, whose root is in the chain in the entry with `seal_id` as
-- what it is about.
CREATE TABLE attempt_seal (
    seal_id     uuid   NOT NULL,
    tenant_id   uuid   NOT NULL,
    since       bigint NOT NULL,
    until       bigint NOT NULL,
    leaves      bytea  NOT NULL,
    CONSTRAINT attempt_seal_pkey PRIMARY KEY (seal_id),
    CONSTRAINT attempt_seal_is_an_interval CHECK (since < until),
    CONSTRAINT attempt_seal_leaf_lengths CHECK (octet_length(leaves) % 32 = 0 AND octet_length(leaves) > 0)
);
CREATE INDEX attempt_seal_by_tenant ON attempt_seal (tenant_id, until);

-- Up to which transaction attempts are sealed: one row.
CREATE TABLE seal_progress (
    only_row     boolean NOT NULL DEFAULT true,
    sealed_until bigint  NOT NULL,
    CONSTRAINT seal_progress_pkey PRIMARY KEY (only_row),
    CONSTRAINT seal_progress_is_one_row CHECK (only_row)
);
INSERT INTO seal_progress (sealed_until) VALUES (pg_current_xact_id()::text::bigint);

GRANT SELECT, INSERT ON attempt_seal TO sallyport_app;
GRANT SELECT, UPDATE (sealed_until) ON seal_progress TO sallyport_app;
GRANT SELECT (recorded_in, headers_sha256) ON attempt TO sallyport_readonly;
GRANT SELECT ON attempt_seal, seal_progress TO sallyport_readonly;
