-- Why: many deliveries at once are replayed or canceled by a job, a page at a time (docs/adr/0050-jobs-in-pages.md).

-- What a job works on never changes: deliveries of `of_state` with ids above `since_id` and below `until_id`, as they
-- were when it was created. `after_id` is how far it has come, and `step_id` the last step, by which a step that is run
-- again sees what the first run did.
CREATE TABLE job (
    job_id          uuid             NOT NULL,
    tenant_id       uuid             NOT NULL,
    idempotency_key text             NOT NULL,
    act             text             NOT NULL,
    destination_id  uuid,
    of_state        text             NOT NULL,
    outcome         text,
    status_class    smallint,
    since_id        uuid             NOT NULL,
    until_id        uuid             NOT NULL,
    rate            double precision NOT NULL,
    expected        bigint           NOT NULL,
    created_at      timestamptz      NOT NULL,
    created_by      text             NOT NULL,
    state           text             NOT NULL,
    after_id        uuid             NOT NULL,
    step_id         uuid,
    paced_until     timestamptz      NOT NULL,
    changed         bigint           NOT NULL DEFAULT 0,
    skipped         bigint           NOT NULL DEFAULT 0,
    finished_at     timestamptz,
    CONSTRAINT job_pkey PRIMARY KEY (job_id),
    CONSTRAINT job_key_once UNIQUE (tenant_id, idempotency_key),
    CONSTRAINT job_act_known CHECK (act IN ('replay', 'cancel')),
    CONSTRAINT job_state_known CHECK (state IN ('running', 'paused', 'canceled', 'done')),
    CONSTRAINT job_finished_has_time CHECK ((state IN ('running', 'paused')) = (finished_at IS NULL)),
    CONSTRAINT job_of_state_fits CHECK (
        act = 'replay' AND of_state IN ('failed', 'unknown', 'delivered') OR act = 'cancel' AND of_state = 'pending'),
    CONSTRAINT job_rate_positive CHECK (rate > 0),
    CONSTRAINT job_destination_exists
        FOREIGN KEY (tenant_id, destination_id) REFERENCES destination (tenant_id, destination_id)
) WITH (fillfactor = 50);
CREATE INDEX job_by_tenant ON job (tenant_id, job_id);

GRANT SELECT, INSERT ON job TO sallyport_app;
GRANT UPDATE (state, after_id, step_id, paced_until, changed, skipped, finished_at) ON job TO sallyport_app;
GRANT SELECT ON job TO sallyport_readonly;
