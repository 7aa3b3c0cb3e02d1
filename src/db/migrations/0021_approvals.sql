-- Why: a tenant can ask for a second token's approval of what must not be done by one alone: four eyes.

-- Empty where nothing needs an approval; else how many deliveries one token may replay or cancel at once.
ALTER TABLE tenant ADD COLUMN approvals_above integer
    CONSTRAINT tenant_approvals_above_not_negative CHECK (approvals_above >= 0);

-- What one token proposed, until another one approves or rejects it. `sealed_request` is the call as it was, which may
-- hold credentials; it is deleted when the proposal is decided for good. `request` is what is shown of it.
CREATE TABLE proposal (
    proposal_id    uuid        NOT NULL,
    tenant_id      uuid        NOT NULL,
    act            text        NOT NULL,
    target         text        NOT NULL,
    request        jsonb       NOT NULL,
    sealed_request bytea,
    state          text        NOT NULL,
    created_at     timestamptz NOT NULL,
    created_by     text        NOT NULL,
    expires_at     timestamptz NOT NULL,
    decided_at     timestamptz,
    decided_by     text,
    CONSTRAINT proposal_pkey PRIMARY KEY (proposal_id),
    CONSTRAINT proposal_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenant,
    CONSTRAINT proposal_state_known CHECK (state IN ('open', 'approved', 'done', 'failed', 'rejected')),
    CONSTRAINT proposal_decided_by_somebody CHECK (
        (state = 'open') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)),
    -- The rule of four eyes. Whoever made a proposal may take it back.
    CONSTRAINT proposal_approved_by_another CHECK (state IN ('open', 'rejected') OR decided_by <> created_by)
) WITH (fillfactor = 50);
CREATE INDEX proposal_by_tenant ON proposal (tenant_id, proposal_id);

GRANT SELECT (tenant_id, approvals_above) ON tenant TO sallyport_app;
GRANT UPDATE (approvals_above) ON tenant TO sallyport_admin;
GRANT SELECT, INSERT ON proposal TO sallyport_app;
GRANT UPDATE (state, decided_at, decided_by, sealed_request) ON proposal TO sallyport_app;
GRANT SELECT (
    proposal_id, tenant_id, act, target, request, state, created_at, created_by, expires_at, decided_at, decided_by
) ON proposal TO sallyport_readonly;
