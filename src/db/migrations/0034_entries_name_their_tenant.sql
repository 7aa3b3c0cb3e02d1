-- Why: a CHECK holds where it is NULL, so an audit entry whose content names no tenant passed for one of its own.
ALTER TABLE audit_entry
    ADD CONSTRAINT audit_entry_names_its_tenant CHECK (content::jsonb ->> 'tenant_id' IS NOT NULL) NOT VALID;
