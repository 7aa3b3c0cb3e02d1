-- Why: the jobs that were there before have tenants too. In a transaction of its own, since it reads them all.
ALTER TABLE job VALIDATE CONSTRAINT job_tenant_exists;
