-- Why: a statement whose connection breaks after it committed is run again, and has to give the same answer then. Two
-- answers could not be found again in the rows: that a claim was of a lapsed lease (the repeat took the row for its own,
-- and sent the request a second time), and that a record moved its delivery on. Older code leaves both empty, which says
-- "no" to both, as it said before.

-- The lease that was taken over from one that had run out; it stays when the lease is over.
ALTER TABLE delivery ADD lapsed_lease_id uuid;
-- The lease under which recording this attempt moved its delivery on; empty where only the log was written.
ALTER TABLE attempt ADD moved_lease_id uuid;
