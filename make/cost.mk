##@ Measure it

.PHONY: cost
cost: $(DEV_READY) ## what a stack costs in a month, by design, egress, stage and load
#? one bill with its lines: TOPOLOGY= EGRESS= STAGE= DELIVERIES=1000000 SET="WebAcl=yes"
#? FREE=yes adds to that bill what costs nothing, and why
#? WRITE=yes renews what docs/costs.md quotes
	@$(PY) -m stack.cost --topology="$(TOPOLOGY)" --egress="$(EGRESS)" --stage="$(STAGE)" --deliveries="$(DELIVERIES)" \
		--set="$(SET)" $(call switch,FREE,--free) $(call switch,WRITE,--write)
