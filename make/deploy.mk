# Deploying with a guard. Not yet tested on AWS: see docs/deploy.md.

##@ Build and deploy

.PHONY: guard
guard: $(DEV_READY) ## refuse a change set that deletes or replaces what must stay
#? CHANGE_SET=arn, or CHANGE_SET=name STACK=name, or RECORDED=folder
#? ALLOW=A,B to accept it for A and B; REGION=eu-central-1
#! CHANGE_SET=|RECORDED=
	@$(PROGRAM) stack.deploy.guard $(options)

DEPLOYER = PATH="$(CURDIR)/$(SAM_VENV)/bin:$$PATH" SAM_CLI_TELEMETRY=0 $(PROGRAM) stack.deploy

.PHONY: preflight
preflight: $(DEV_READY) ## look for what an account lacks for a stage, without changing anything: STAGE=dev
#! STAGE=
	@$(DEPLOYER) preflight $(options)

.PHONY: deploy
deploy: $(DEV_READY) ## look at the account, build, guard, ask, deploy and protect a stage: STAGE=dev
#? ALLOW=A,B to accept the loss of A and B; YES=yes does not ask; NESTED=no checks the root stack only
#! STAGE=
	@architecture=$$($(DEPLOYER) ready $(options)) || { echo "$${architecture:-Nothing was built or changed.}"; exit 1; }; \
		$(MAKE) build ARCHITECTURE=$$architecture
	@$(DEPLOYER) deploy $(options)

.PHONY: protect
protect: $(DEV_READY) ## set the stack policy on a stage's stack and on its nested stacks: STAGE=dev
#! STAGE=
	@$(DEPLOYER) protect $(options)

.PHONY: status
status: $(DEV_READY) ## whether a stage's stack is healthy, in one screen, without changing anything: STAGE=dev
#! STAGE=
	@$(DEPLOYER) status $(options)
