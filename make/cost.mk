##@ Measure it

.PHONY: cost
cost: $(DEV_READY) ## what a stack costs per month, by design, egress, stage and load
#? one itemised bill: TOPOLOGY= EGRESS= STAGE= DELIVERIES=1000000 SET="WebAcl=yes"
#? FREE=yes adds to that bill what is free, and why
#? WRITE=yes updates the numbers in docs/costs.md
	@$(PROGRAM) stack.cost $(options)
