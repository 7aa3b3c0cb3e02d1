# Third-party scanners in an environment of their own: checkov on everything that the templates create, cfripper on its IAM
# and security groups. Both read files only and need no network.

##@ Work on it

SCAN_VENV := .venv-scan
SCAN_READY := $(SCAN_VENV)/.ready

# Links between the documents. The checker is in the scanners' environment, because it shares checkov's dependencies.
.PHONY: check-links
check-links: $(SCAN_READY)
	@echo "== links"
	@$(SCAN_VENV)/bin/md-dead-link-check --no-color --untrack

.PHONY: check-scan
check-scan: $(DEV_READY) $(SCAN_READY) ## run checkov and cfripper on every topology; part of make check
	@echo "== scanners"
	@$(PROGRAM) stack.scan $(SCAN_VENV)/bin

$(SCAN_READY): requirements-scan.txt local/set-up
	@local/set-up $(SCAN_VENV) requirements-scan.txt
	@touch $@
