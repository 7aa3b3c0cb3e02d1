-- Why: the first schema. Tenants and their tokens, destinations, deliveries and the log of their attempts.
-- Times come from the application's clock, never from now(), so that a test can say what time it is.

CREATE TABLE tenant (
    tenant_id  uuid        NOT NULL,
    name       text        NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenant_name_once UNIQUE (name),
    CONSTRAINT tenant_name_form CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$')
);

-- A token is 256 random bits; only its SHA-256 is kept. Fast hashing is right for a secret of that entropy.
CREATE TABLE token (
    token_id     uuid        NOT NULL,
    tenant_id    uuid        NOT NULL,
    token_sha256 bytea       NOT NULL,
    scopes       text[]      NOT NULL,
    created_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT token_pkey PRIMARY KEY (token_id),
    CONSTRAINT token_sha256_once UNIQUE (token_sha256),
    CONSTRAINT token_sha256_length CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT token_scopes_known CHECK (scopes <@ ARRAY ['read', 'send', 'manage'] AND cardinality(scopes) > 0),
    CONSTRAINT token_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenant
);
CREATE INDEX token_by_tenant ON token (tenant_id);

CREATE TABLE destination (
    destination_id      uuid             NOT NULL,
    tenant_id           uuid             NOT NULL,
    name                text             NOT NULL,
    base_url            text             NOT NULL,
    auth_type           text             NOT NULL,
    sealed_credentials  bytea,
    guarantee           text             NOT NULL,
    idempotent          boolean          NOT NULL,
    idempotency_header  text             NOT NULL,
    connect_seconds     double precision NOT NULL,
    first_byte_seconds  double precision NOT NULL,
    total_seconds       double precision NOT NULL,
    created_at          timestamptz      NOT NULL,
    CONSTRAINT destination_pkey PRIMARY KEY (destination_id),
    CONSTRAINT destination_name_once UNIQUE (tenant_id, name),
    CONSTRAINT destination_of_tenant UNIQUE (tenant_id, destination_id),
    CONSTRAINT destination_name_form CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    CONSTRAINT destination_auth_type_known CHECK (auth_type IN ('none', 'bearer', 'basic', 'header')),
    CONSTRAINT destination_credentials_sealed CHECK ((auth_type = 'none') = (sealed_credentials IS NULL)),
    CONSTRAINT destination_guarantee_known CHECK (guarantee IN ('auto', 'at_least_once', 'at_most_once')),
    CONSTRAINT destination_timeouts_ordered CHECK (
        connect_seconds > 0 AND connect_seconds <= total_seconds
        AND first_byte_seconds > 0 AND first_byte_seconds <= total_seconds AND total_seconds <= 25),
    CONSTRAINT destination_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenant
);

CREATE TABLE delivery (
    delivery_id      uuid        NOT NULL,
    tenant_id        uuid        NOT NULL,
    destination_id   uuid        NOT NULL,
    idempotency_key  text        NOT NULL,
    fingerprint      bytea       NOT NULL,
    method           text        NOT NULL,
    path             text        NOT NULL,
    query            text        NOT NULL,
    headers          jsonb       NOT NULL,
    body             bytea       NOT NULL,
    metadata         jsonb       NOT NULL,
    state            text        NOT NULL,
    attempts_made    smallint    NOT NULL,
    attempts_allowed smallint    NOT NULL,
    due_at           timestamptz NOT NULL,
    lease_id         uuid,
    leased_until     timestamptz,
    created_at       timestamptz NOT NULL,
    finished_at      timestamptz,
    CONSTRAINT delivery_pkey PRIMARY KEY (delivery_id),
    -- The promise behind Idempotency-Key: per tenant, one key is one delivery, as long as the delivery is kept. Where the
    -- caller gave none it is the delivery's id, so that an INSERT may be run again after a connection broke under it.
    CONSTRAINT delivery_key_once UNIQUE (tenant_id, idempotency_key),
    CONSTRAINT delivery_state_known
        CHECK (state IN ('pending', 'sending', 'delivered', 'failed', 'unknown', 'canceled')),
    CONSTRAINT delivery_lease_while_sending
        CHECK ((state = 'sending') = (lease_id IS NOT NULL) AND (lease_id IS NULL) = (leased_until IS NULL)),
    CONSTRAINT delivery_finished_has_time
        CHECK ((state IN ('pending', 'sending')) = (finished_at IS NULL)),
    CONSTRAINT delivery_attempts_bounded CHECK (attempts_made BETWEEN 0 AND attempts_allowed),
    CONSTRAINT delivery_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    -- Both columns, so that no delivery can ever point at another tenant's destination.
    CONSTRAINT delivery_destination_exists
        FOREIGN KEY (tenant_id, destination_id) REFERENCES destination (tenant_id, destination_id)
);
-- Lists: newest first, by tenant; then narrowed to a destination or a state. The id is a UUIDv7: its order is the time's.
CREATE INDEX delivery_by_tenant ON delivery (tenant_id, delivery_id DESC);
CREATE INDEX delivery_by_destination ON delivery (tenant_id, destination_id, delivery_id DESC);
CREATE INDEX delivery_by_state ON delivery (tenant_id, state, delivery_id DESC);

CREATE TABLE attempt (
    attempt_id           uuid             NOT NULL,
    delivery_id          uuid             NOT NULL,
    number               smallint         NOT NULL,
    outcome              text             NOT NULL,
    reason               text,
    started_at           timestamptz      NOT NULL,
    dns_ms               double precision,
    connect_ms           double precision,
    tls_ms               double precision,
    first_byte_ms        double precision,
    total_ms             double precision NOT NULL,
    remote_address       inet,
    egress_address       inet,
    status               smallint,
    response_headers     jsonb,
    response_body        bytea,
    response_length      bigint,
    response_sha256      bytea,
    response_truncated   boolean,
    CONSTRAINT attempt_pkey PRIMARY KEY (attempt_id),
    CONSTRAINT attempt_number_once UNIQUE (delivery_id, number),
    CONSTRAINT attempt_outcome_known CHECK (outcome IN ('answered', 'unreachable', 'unknown', 'refused')),
    CONSTRAINT attempt_answered_has_response CHECK (
        (outcome = 'answered') = (status IS NOT NULL)
        AND (outcome = 'answered') = (response_headers IS NOT NULL AND response_body IS NOT NULL
                                      AND response_truncated IS NOT NULL)),
    CONSTRAINT attempt_reason_unless_answered CHECK ((outcome = 'answered') = (reason IS NULL)),
    CONSTRAINT attempt_body_capped CHECK (octet_length(response_body) <= 65536),
    CONSTRAINT attempt_delivery_exists FOREIGN KEY (delivery_id) REFERENCES delivery ON DELETE CASCADE
);
