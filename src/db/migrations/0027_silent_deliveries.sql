-- Why: which deliveries wait for a partner that says nothing, or for a worker that may have stopped as it asked, without
-- reading those that are asked about at their time. Attempts to send leave these columns empty.
-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS delivery_in_silence ON delivery (destination_id, delivery_id)
    WHERE phase = 'unknown' AND (ask_silent OR asking_id IS NOT NULL);
