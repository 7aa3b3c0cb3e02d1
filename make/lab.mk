# The lab: the VPC of our templates on this machine, out of Linux network namespaces. See docs/lab.md.
# The tests of the lab are skipped, with a line that says so, where the kernel forbids namespaces; with
# SALLYPORT_LAB=required in the environment they fail there instead, which is for CI.

##@ Prove it

.PHONY: lab
lab: $(DEV_READY) ## prove the network with packets, on this machine: all designs
#? TOPOLOGY= EGRESS= for one; CONTROLS=yes PROGRAMS=yes for all that they have
#? STACK=sallyport-dev REGION=eu-central-1 for a deployed one
	@$(PY) -m lab --tied --topology="$(TOPOLOGY)" --egress="$(EGRESS)" --controls="$(CONTROLS)" --programs="$(PROGRAMS)" \
		--stack="$(STACK)" --region="$(REGION)"

.PHONY: lab-shell
lab-shell: $(DEV_READY) ## a shell on a host of the lab, all programs running: HOST=attacker; lists the hosts without
#? TOPOLOGY= EGRESS= for another design
	@$(PY) -m lab --tied --host="$(HOST)" --topology="$(TOPOLOGY)" --egress="$(EGRESS)"

.PHONY: lab-fuzz
lab-fuzz: $(DEV_READY) ## what the lab's oracle says against packets, on random networks
#? N=100 of them, SEED=1 for the same again, SPOILT=yes for mistakes on purpose
	@$(PY) -m lab.fuzz --tied $(or $(call number,N,--networks,100),--networks 100) $(call number,SEED,--seed,1) $(call switch,SPOILT,--spoilt)
