-- Why: before operators switch to a new address, their function says which destinations have answered to requests from
-- it (src/db/sightings.py). It reads the columns that tell, and nothing of what deliveries contain.

GRANT SELECT (destination_id, tenant_id, name, state, deleted_at) ON destination TO sallyport_admin;
GRANT SELECT (delivery_id, destination_id, phase) ON delivery TO sallyport_admin;
GRANT SELECT (delivery_id, number, outcome, egress_address, status, started_at) ON attempt TO sallyport_admin;
