-- Why: each function has a role of its own, and so have people. Nothing is granted by default: a table or column that
-- comes later stays hidden until a migration grants it. The runner makes the roles, since they belong to the server and
-- not to this database.

-- The gateway cannot make tokens, nor read them, nor delete anything.
GRANT SELECT, INSERT ON destination, delivery_body TO sallyport_app;
GRANT SELECT, INSERT, UPDATE ON delivery, attempt TO sallyport_app;

-- Exactly what src/db/tenants.py asks for when a token is checked.
GRANT SELECT (token_id, tenant_id, token_sha256, scopes, revoked_at, last_used_at), UPDATE (last_used_at)
    ON token TO sallyport_authorizer;

-- The operators' function cannot read deliveries.
GRANT SELECT, INSERT, UPDATE (name) ON tenant TO sallyport_admin;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON token TO sallyport_admin;

-- People read everything but credentials and the hashes of tokens. Those two tables are granted column by column.
GRANT SELECT ON tenant, delivery, delivery_body, attempt, schema_migration TO sallyport_readonly;
GRANT SELECT (token_id, tenant_id, scopes, created_at, revoked_at, last_used_at) ON token TO sallyport_readonly;
GRANT SELECT (
    destination_id, tenant_id, name, base_url, auth_type, guarantee, idempotent, idempotency_header, connect_seconds,
    first_byte_seconds, total_seconds, created_at
) ON destination TO sallyport_readonly;

-- A forgotten terminal must neither hold up vacuum nor keep an idle Aurora from pausing.
ALTER ROLE sallyport_readonly SET default_transaction_read_only = on;
ALTER ROLE sallyport_readonly SET statement_timeout = '60s';
ALTER ROLE sallyport_readonly SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE sallyport_readonly SET idle_session_timeout = '15min';

-- Functions set these when they connect (src/db/connection.py), but RDS Proxy refuses `options`.
ALTER ROLE sallyport_app SET statement_timeout = '10s';
ALTER ROLE sallyport_app SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE sallyport_app SET timezone = 'UTC';
ALTER ROLE sallyport_authorizer SET statement_timeout = '10s';
ALTER ROLE sallyport_authorizer SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE sallyport_authorizer SET timezone = 'UTC';
ALTER ROLE sallyport_admin SET statement_timeout = '10s';
ALTER ROLE sallyport_admin SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE sallyport_admin SET timezone = 'UTC';
