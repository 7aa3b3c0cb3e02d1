-- Why: what the two oldest roles may do was granted by the runner at each deployment, so that a right which a migration
-- takes away would have come back with the next roll-back and stayed. From here on rights stand in migrations alone.
-- These are the ones that they have.

-- The gateway cannot make tokens.
GRANT SELECT, UPDATE (last_used_at) ON token TO sallyport_app;
GRANT SELECT, INSERT ON destination TO sallyport_app;
GRANT SELECT, INSERT, UPDATE ON delivery, attempt TO sallyport_app;

-- The operators' function cannot read deliveries.
GRANT SELECT, INSERT, UPDATE (name) ON tenant TO sallyport_admin;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON token TO sallyport_admin;
