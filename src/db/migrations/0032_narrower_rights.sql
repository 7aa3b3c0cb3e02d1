-- Why: the gateway's role could write more of attempts, jobs and proposals than any statement does: the transaction of an
-- attempt, by which it is sealed, and who decided about a proposal that is only made. A job could be of no tenant.
-- contract: 0024_payloads stopped using it
REVOKE INSERT, UPDATE ON attempt FROM sallyport_app;
GRANT INSERT (
    attempt_id, delivery_id, number, kind, outcome, reason, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms,
    remote_address, egress_address, status, response_headers, response_body, response_length, response_sha256,
    response_truncated, headers_sha256, moved_lease_id
), UPDATE (
    kind, outcome, reason, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, remote_address, egress_address,
    status, response_headers, response_body, response_length, response_sha256, response_truncated, headers_sha256,
    moved_lease_id, recorded_in
) ON attempt TO sallyport_app;
REVOKE INSERT ON job, proposal FROM sallyport_app;
GRANT INSERT (
    job_id, tenant_id, idempotency_key, act, destination_id, of_state, outcome, status_class, since_id, until_id, rate,
    expected, created_at, created_by, state, after_id, paced_until
) ON job TO sallyport_app;
GRANT INSERT (
    proposal_id, tenant_id, act, target, request, sealed_request, state, created_at, created_by, expires_at
) ON proposal TO sallyport_app;

ALTER TABLE job ADD CONSTRAINT job_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenant NOT VALID;
