-- Why: bodies beyond 2 KB are compressed. LZ4 does that to the same size, in a fraction of the time of the default
-- (docs/adr/0032-an-attempt-writes-no-index.md). A server that was built without it goes on with its default.
DO $$
BEGIN
    ALTER TABLE delivery_body ALTER body SET COMPRESSION lz4;
    ALTER TABLE attempt ALTER response_body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server has no LZ4';
END $$;
