-- Why: the authorizer needs tokens and nothing else, yet it connected as sallyport_app, which reads all deliveries; and
-- people who look into the database had no role but the owner's. The runner makes the roles themselves, since they belong
-- to the server and not to this database. What sallyport_app may do stays as it is: the authorizer of the release before
-- this one still connects as it while a deployment goes on, and after a roll-back.

-- Exactly what src/db/tenants.py asks for when a token is checked.
GRANT SELECT (token_id, tenant_id, token_sha256, scopes, revoked_at, last_used_at), UPDATE (last_used_at)
    ON token TO sallyport_authorizer;

-- People read everything but credentials and what tokens are recognised by. Those two tables are granted column by column,
-- so a column that comes later stays hidden until a migration shows it; and a table that comes later stays hidden too, as
-- there are no default privileges.
GRANT SELECT ON tenant, delivery, attempt, schema_migration TO sallyport_readonly;
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

-- Functions set these when they connect (src/db/connection.py), which RDS Proxy does not let them: it refuses `options`.
ALTER ROLE sallyport_app SET statement_timeout = '10s';
ALTER ROLE sallyport_app SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE sallyport_app SET timezone = 'UTC';
ALTER ROLE sallyport_authorizer SET statement_timeout = '10s';
ALTER ROLE sallyport_authorizer SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE sallyport_authorizer SET timezone = 'UTC';
ALTER ROLE sallyport_admin SET statement_timeout = '10s';
ALTER ROLE sallyport_admin SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE sallyport_admin SET timezone = 'UTC';
