# The lab: the VPC of our templates on this machine, out of Linux network namespaces. See docs/lab.md.
# The tests of the lab are skipped, with a line that says so, where the kernel forbids namespaces; with
# SALLYPORT_LAB=required in the environment they fail there instead, which is for CI.

##@ Prove it

# The command ends with make, kill -9 included: this is make's process, asked for while it surely lives.
TIED = --tied=$(shell echo $$PPID)

.PHONY: lab
lab: $(DEV_READY) ## prove the network with packets, on this machine: all designs
#? TOPOLOGY= EGRESS= for one; CONTROLS=yes PROGRAMS=yes for all that they have
#? STACK=sallyport-dev REGION=eu-central-1 for a deployed one
#? VERBOSE=yes to print what else stands in .lab; OUT=folder for another place than .lab
#! nft namespaces
	@exec $(PY) -m lab $(TIED) --topology="$(TOPOLOGY)" --egress="$(EGRESS)" --controls="$(CONTROLS)" --programs="$(PROGRAMS)" \
		--stack="$(STACK)" --region="$(REGION)" $(call switch,VERBOSE,--verbose) $(if $(OUT),--out="$(OUT)")

.PHONY: lab-shell
lab-shell: $(DEV_READY) ## a shell on a host of the lab, all programs running: HOST=attacker; lists the hosts without
#? TOPOLOGY= EGRESS= for another design
#! nft namespaces
	@exec $(PY) -m lab $(TIED) --host="$(HOST)" --topology="$(TOPOLOGY)" --egress="$(EGRESS)"

.PHONY: lab-fuzz
lab-fuzz: $(DEV_READY) ## what the lab's oracle says against packets, on random networks
#? N=100 of them, SEED=1 for the same again, MUTANTS=yes for plans with a deliberate mistake
#! nft namespaces
	@exec $(PY) -m lab.fuzz $(TIED) $(or $(call number,N,--networks),--networks 100) $(call number,SEED,--seed) $(call switch,MUTANTS,--mutants)
