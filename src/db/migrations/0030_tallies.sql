-- Why: numbers for people, of the last hour, day and month, without counting deliveries when they are asked for.

-- What attempts came to, by destination: `what` is how an attempt ended, how its delivery did, or how long it took. Ten
-- minutes and days (UTC), from `since` on. Nothing that sends deliveries writes here: a worker counts beside its other work
-- what was recorded since the last time (src/db/tallies.py), so that no attempt ever waits for a counter.
CREATE TABLE tally (
    destination_id uuid        NOT NULL,
    span           interval    NOT NULL,
    since          timestamptz NOT NULL,
    what           text        NOT NULL,
    count          bigint      NOT NULL,
    CONSTRAINT tally_pkey PRIMARY KEY (destination_id, span, since, what),
    CONSTRAINT tally_destination_exists FOREIGN KEY (destination_id) REFERENCES destination ON DELETE CASCADE
) WITH (fillfactor = 50);

-- Up to which transaction attempts are counted, and when they were: one row. `step_id` is the last step, of `attempts`, by
-- which a step that is run again sees what the first run did.
CREATE TABLE tally_progress (
    only_row      boolean     NOT NULL DEFAULT true,
    counted_until bigint      NOT NULL,
    counted_at    timestamptz NOT NULL DEFAULT '-infinity',
    step_id       uuid,
    attempts      integer     NOT NULL DEFAULT 0,
    CONSTRAINT tally_progress_pkey PRIMARY KEY (only_row),
    CONSTRAINT tally_progress_is_one_row CHECK (only_row)
);
INSERT INTO tally_progress (counted_until) VALUES (pg_current_xact_id()::text::bigint);

-- The class of a duration: each is 1.2 times as long as the one before, from a millisecond to a minute.
CREATE FUNCTION duration_class(total_ms double precision) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT least(60, floor(ln(greatest(total_ms, 1)) / ln(1.2)))::integer
$$;

GRANT SELECT, INSERT, UPDATE (count), DELETE ON tally TO sallyport_app;
GRANT SELECT, UPDATE (counted_until, counted_at, step_id, attempts) ON tally_progress TO sallyport_app;
GRANT SELECT ON tally, tally_progress TO sallyport_readonly;
