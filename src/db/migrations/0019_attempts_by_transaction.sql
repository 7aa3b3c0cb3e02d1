-- Why: the attempts of an interval are found without reading the others. A BRIN index has an entry for each 128 pages and
-- none for an attempt, so that recording one costs nothing more.
-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS attempt_by_transaction ON attempt USING brin (recorded_in);
