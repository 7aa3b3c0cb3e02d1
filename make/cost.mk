##@ What it costs

.PHONY: cost
cost: $(DEV_READY) ## the monthly bill; TOPOLOGY= EGRESS= STAGE= DELIVERIES= SET="WebAcl=yes" for one, FREE=yes; WRITE=yes for the docs
	@$(PY) -m stack.cost --topology="$(TOPOLOGY)" --egress="$(EGRESS)" --stage="$(STAGE)" --deliveries="$(DELIVERIES)" \
		--set="$(SET)" $(if $(FREE),--free) $(if $(WRITE),--write)
