-- Why: a token may end by itself, and be for some destinations alone. Code that does not know these columns issues tokens
-- that do neither.

ALTER TABLE token
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN destination_ids uuid[];

-- The authorizer says when a token has ended, and passes the names of its destinations to the API.
GRANT SELECT (expires_at, destination_ids) ON token TO sallyport_authorizer, sallyport_readonly;
GRANT SELECT (destination_id, tenant_id, name) ON destination TO sallyport_authorizer;
