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

-- A delivery without its body, which is in a table of its own so that an update does not copy it. Columns that change
-- come last, as the log of an update then has only the end of the row. The fillfactor leaves room on each page for the
-- next version of a batch's rows.
CREATE TABLE delivery (
    delivery_id      uuid        NOT NULL,
    tenant_id        uuid        NOT NULL,
    destination_id   uuid        NOT NULL,
    created_at       timestamptz NOT NULL,
    attempts_allowed smallint    NOT NULL,
    idempotency_key  text        NOT NULL,
    fingerprint      bytea       NOT NULL,
    method           text        NOT NULL,
    path             text        NOT NULL,
    query            text        NOT NULL,
    headers          jsonb       NOT NULL,
    metadata         jsonb       NOT NULL,
    due_at           timestamptz NOT NULL,
    attempts_made    smallint    NOT NULL,
    state            text        NOT NULL,
    -- What lists are read by. Unlike `state` it changes only when the delivery ends: so no index has a column that
    -- claims and retries change, and they write no index (heap-only tuples).
    phase            text        NOT NULL
        GENERATED ALWAYS AS (CASE WHEN state IN ('pending', 'sending') THEN 'open' ELSE state END) STORED,
    finished_at      timestamptz,
    leased_until     timestamptz,
    lease_id         uuid,
    -- The lease that was taken over from one that had run out; it stays when the lease is over. A claim that is run
    -- again, as its connection broke after it committed, sees by it that the row was lapsed.
    lapsed_lease_id  uuid,
    CONSTRAINT delivery_pkey PRIMARY KEY (delivery_id),
    -- The promise behind Idempotency-Key: per tenant, one key is one delivery, as long as the delivery is stored. Where
    -- the caller gave none it is the delivery's id, so that an INSERT may be run again after its connection broke.
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
) WITH (fillfactor = 50);
-- Lists, of a tenant or of a destination, of one phase or merged from all. They are read from the end, the newest first:
-- a UUIDv7's order is the time's. In this direction new entries come last, where PostgreSQL fills pages and halves none.
CREATE INDEX delivery_by_tenant ON delivery (tenant_id, phase, delivery_id);
CREATE INDEX delivery_by_destination ON delivery (destination_id, phase, delivery_id);

-- Written by the statement that writes the delivery, and read by the claim. It may be deleted before the delivery is.
CREATE TABLE delivery_body (
    delivery_id uuid  NOT NULL,
    body        bytea NOT NULL,
    CONSTRAINT delivery_body_pkey PRIMARY KEY (delivery_id),
    -- So that nobody's data stays behind when a delivery is deleted.
    CONSTRAINT delivery_body_delivery_exists FOREIGN KEY (delivery_id) REFERENCES delivery ON DELETE CASCADE
);

CREATE TABLE attempt (
    delivery_id          uuid             NOT NULL,
    number               smallint         NOT NULL,
    attempt_id           uuid             NOT NULL,
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
    -- The lease under which recording this attempt moved its delivery on; empty where only the log was written. A
    -- record that is run again, as its connection broke after it committed, sees by it what the first run moved.
    moved_lease_id       uuid,
    -- No index on attempt_id: nothing looks an attempt up by it, and each index costs every attempt an entry.
    CONSTRAINT attempt_pkey PRIMARY KEY (delivery_id, number),
    CONSTRAINT attempt_outcome_known CHECK (outcome IN ('answered', 'unreachable', 'unknown', 'refused')),
    CONSTRAINT attempt_answered_has_response CHECK (
        (outcome = 'answered') = (status IS NOT NULL)
        AND (outcome = 'answered') = (response_headers IS NOT NULL AND response_body IS NOT NULL
                                      AND response_truncated IS NOT NULL)),
    CONSTRAINT attempt_reason_unless_answered CHECK ((outcome = 'answered') = (reason IS NULL)),
    CONSTRAINT attempt_body_capped CHECK (octet_length(response_body) <= 65536),
    CONSTRAINT attempt_delivery_exists FOREIGN KEY (delivery_id) REFERENCES delivery ON DELETE CASCADE
);
