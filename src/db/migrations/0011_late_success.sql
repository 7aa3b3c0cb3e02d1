-- Why: what an earlier attempt achieved stands. Its outcome may come when another attempt is in flight, whose record ends
-- the delivery as delivered then, whatever became of it.

-- The attempt whose success came after another one had begun; almost always empty.
ALTER TABLE delivery ADD COLUMN delivered_by smallint;
