# Deploying with a guard. None of it ran against AWS from here: see docs/operations.md#deploy.

##@ Deploy it

.PHONY: guard
guard: $(DEV_READY) ## refuse a change set that loses what must stay: CHANGE_SET=arn or RECORDED=folder; ALLOW=A,B
	@$(PY) -m stack.guard $(if $(CHANGE_SET),--change-set "$(CHANGE_SET)") $(if $(STACK),--stack "$(STACK)") \
		$(if $(RECORDED),--recorded $(RECORDED)) $(if $(ALLOW),--allow "$(ALLOW)") $(if $(REGION),--region "$(REGION)")

DEPLOYER = PATH="$(CURDIR)/$(SAM_VENV)/bin:$$PATH" SAM_CLI_TELEMETRY=0 $(PY) -m stack.deploy

.PHONY: deploy
deploy: $(DEV_READY) ## build, guard, ask, deploy, protect: STAGE=dev; ALLOW=A,B lets A and B go; YES=1; NESTED=no
	@architecture=$$($(DEPLOYER) ready --stage "$(STAGE)") || { echo "$$architecture"; exit 1; }; \
		$(MAKE) build ARCHITECTURE=$$architecture
	@$(DEPLOYER) deploy --stage "$(STAGE)" $(if $(ALLOW),--allow "$(ALLOW)") $(if $(YES),--yes) \
		$(if $(filter no,$(NESTED)),--without-nested)

.PHONY: protect
protect: $(DEV_READY) ## set the stack policy on a stage's stack and on those nested in it: STAGE=dev
	@$(DEPLOYER) protect --stage "$(STAGE)"
