-- Why: credentials of two more kinds, and the access tokens that one of them leads to.

-- The constraint gives way to a wider one of the same name, which takes all that older code writes.
-- contract: 0004_destinations stopped using it
ALTER TABLE destination DROP CONSTRAINT destination_auth_type_known;
-- It is a table of few rows, all of which the narrower constraint has checked.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE destination ADD CONSTRAINT destination_auth_type_known
    CHECK (auth_type IN ('none', 'bearer', 'basic', 'header', 'aws_sigv4', 'oauth2'));

-- The access token of a destination, shared by all workers, and which of them fetches the next one. `token_basis` is a
-- hash over what it was asked for with, so that a token of other credentials is not used. A worker that fetches one
-- holds the row until `renewing_until`, without a transaction; `failed_renewal_id` is the last one that got none.
CREATE TABLE oauth_token (
    destination_id    uuid        NOT NULL,
    token_id          uuid,
    sealed_token      bytea,
    token_basis       bytea,
    usable_until      timestamptz,
    renew_at          timestamptz,
    renewal_id        uuid,
    renewing_until    timestamptz,
    failed_renewal_id uuid,
    failure           text,
    CONSTRAINT oauth_token_pkey PRIMARY KEY (destination_id),
    CONSTRAINT oauth_token_whole CHECK (
        num_nonnulls(token_id, sealed_token, token_basis, usable_until, renew_at) IN (0, 5)),
    CONSTRAINT oauth_token_renewal_ends CHECK ((renewal_id IS NULL) = (renewing_until IS NULL)),
    CONSTRAINT oauth_token_failure_said CHECK ((failed_renewal_id IS NULL) = (failure IS NULL)),
    CONSTRAINT oauth_token_of_destination FOREIGN KEY (destination_id) REFERENCES destination
) WITH (fillfactor = 50);

GRANT SELECT, INSERT ON oauth_token TO sallyport_app;
GRANT UPDATE (
    token_id, sealed_token, token_basis, usable_until, renew_at, renewal_id, renewing_until, failed_renewal_id, failure
) ON oauth_token TO sallyport_app;
GRANT SELECT (
    destination_id, token_id, usable_until, renew_at, renewal_id, renewing_until, failed_renewal_id, failure
) ON oauth_token TO sallyport_readonly;
