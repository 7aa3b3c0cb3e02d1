##@ Build and deploy

.PHONY: audit
audit: $(DEV_READY) ## known weaknesses of what ships, from OSV's export for PyPI (docs/security.md)
#? OSV=all.zip, a file that you have fetched
	@$(if $(OSV),,echo "Set OSV= to OSV's export for PyPI; docs/security.md says where it is." >&2; exit 2)
	@$(PROGRAM) tools.audit --osv "$(OSV)"
