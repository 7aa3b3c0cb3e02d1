-- Why: apply_retention (0031) deletes what delete_ended did, which the gateway's role could still call: a right to delete
-- records without a use.
-- contract: 0031_retention_by_destination stopped using it
DROP FUNCTION delete_ended;
