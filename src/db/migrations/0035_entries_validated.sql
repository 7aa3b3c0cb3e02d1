-- Why: the entries that were there before name their tenants too. In a transaction of its own, since it reads them all.
ALTER TABLE audit_entry VALIDATE CONSTRAINT audit_entry_names_its_tenant;
