# Scanners of others, in an environment of their own: checkov on everything that the templates make, cfripper on its IAM
# and security groups. Both look at files alone and need no network.

##@ Work on it

SCAN_VENV := .venv-scan
SCAN_READY := $(SCAN_VENV)/.ready

# The links among the documents, by a checker that lives in the scanners' environment, for it needs what checkov needs.
.PHONY: check-links
check-links: $(SCAN_READY)
	@echo "== links"
	@$(SCAN_VENV)/bin/md-dead-link-check --no-color --untrack

.PHONY: check-scan
check-scan: $(DEV_READY) $(SCAN_READY) ## let checkov and cfripper look at every topology; part of make check
	@echo "== scanners"
	@$(PY) -m stack.scan $(SCAN_VENV)/bin

$(SCAN_READY): requirements-scan.txt local/set-up
	@local/set-up $(SCAN_VENV) requirements-scan.txt
	@touch $@
