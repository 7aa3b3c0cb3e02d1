-- Why: which deliveries of a destination are asked about, the oldest first. Its condition has a column that questions
-- change, and that an attempt to send leaves empty.
-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS delivery_to_ask ON delivery (destination_id, delivery_id)
    WHERE phase = 'unknown' AND ask_at IS NOT NULL;
