# The lab: the VPC of our templates on this machine, built of Linux network namespaces. See docs/lab.md.
# The tests of the lab are skipped, with a line that says so, where the kernel forbids namespaces; with
# SALLYPORT_LAB=required in the environment they fail there instead, which is for CI.

##@ Prove it

.PHONY: lab
lab: $(DEV_READY) ## prove the network with packets, on this machine: all designs
#? TOPOLOGY= EGRESS= for one design; CONTROLS=yes PROGRAMS=yes to run all of these
#? STACK=sallyport-dev REGION=eu-central-1 for a deployed one
#? VERBOSE=yes to print what is otherwise only written to .lab; OUT=folder to write elsewhere
#! nft namespaces
	@exec $(PROGRAM) lab $(TIED) $(options)

.PHONY: lab-shell
lab-shell: $(DEV_READY) ## a shell on a host of the lab, with all programs running: HOST=attacker; without it, list the hosts
#? TOPOLOGY= EGRESS= for another design
#! nft namespaces
	@exec $(PROGRAM) lab $(TIED) --host= $(options)

.PHONY: lab-fuzz
lab-fuzz: $(DEV_READY) ## compare the lab's oracle with packets, on random networks
#? N=100 of them, SEED=1 to repeat a run, MUTANTS=yes for plans with a deliberate mistake
#! nft namespaces
	@exec $(PROGRAM) lab.fuzz $(TIED) $(options)
