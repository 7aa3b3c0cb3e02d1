-- Why: destinations have a life cycle (paused, disabled, changed, deleted), options, and more sealed values than the
-- credentials of one header.

-- What is said of a destination and needs neither a column nor a seal is in `options`, a JSON object by the names of
-- src/domain/options.py; '{}' is a plain destination. `version` counts changes (the ETag of the API).
-- A deleted destination stays for its deliveries' sake. Its name becomes its id, which no destination can be given as a
-- name, so that the name is free again; `deleted_name` is the one it had.
ALTER TABLE destination
    ADD COLUMN state text NOT NULL DEFAULT 'active'
        CONSTRAINT destination_state_known CHECK (state IN ('active', 'paused', 'disabled')),
    ADD COLUMN state_reason text,
    ADD COLUMN state_changed_at timestamptz,
    ADD COLUMN state_changed_by text
        CONSTRAINT destination_state_has_author CHECK ((state_changed_at IS NULL) = (state_changed_by IS NULL)),
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN options jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT destination_options_object CHECK (jsonb_typeof(options) = 'object'),
    ADD COLUMN sealed_certificate bytea,
    ADD COLUMN sealed_signing bytea,
    ADD COLUMN credentials_changed_at timestamptz,
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN deleted_name text
        CONSTRAINT destination_deleted_has_name CHECK ((deleted_at IS NULL) = (deleted_name IS NULL));

-- After this moment no attempt of the delivery begins; empty where its destination sets no limit.
ALTER TABLE delivery ADD COLUMN give_up_at timestamptz;

-- The API changes destinations; whose they are and since when stays.
GRANT UPDATE (
    name, base_url, auth_type, sealed_credentials, guarantee, idempotent, idempotency_header, connect_seconds,
    first_byte_seconds, total_seconds, state, state_reason, state_changed_at, state_changed_by, version, options,
    sealed_certificate, sealed_signing, credentials_changed_at, deleted_at, deleted_name
) ON destination TO sallyport_app;

GRANT SELECT (
    state, state_reason, state_changed_at, state_changed_by, version, options, credentials_changed_at, deleted_at,
    deleted_name
) ON destination TO sallyport_readonly;
