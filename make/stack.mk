# The stack: what is checked, built and run with the AWS SAM CLI, which lives in an environment of its own.

##@ The stack on AWS

SAM_VENV := .venv-sam
SAM_READY := $(SAM_VENV)/.ready
SAM := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=$(or $(AWS_DEFAULT_REGION),us-east-1) PATH="$(CURDIR)/$(SAM_VENV)/bin:$$PATH" $(SAM_VENV)/bin/sam
TEMPLATES := template.yaml $(wildcard infra/*.yaml)

.PHONY: validate
validate: $(SAM_READY) ## lint every template: sam validate and cfn-lint
	@echo "== templates"
	@$(SAM) validate --lint
	@$(SAM_VENV)/bin/cfn-lint -- $(TEMPLATES)

.PHONY: build
build: $(SAM_READY) ## make and check the functions' packages in .aws-sam/build; ARCHITECTURE=x86_64 for that processor
	@$(if $(ARCHITECTURE),ARCHITECTURE=$(ARCHITECTURE)) $(SAM) build \
		$(if $(ARCHITECTURE),--parameter-overrides Architecture=$(ARCHITECTURE))
	@$(SAM_VENV)/bin/python tools/package.py check .aws-sam/build/ApiFunction
	@$(SAM_VENV)/bin/python tools/package.py built .aws-sam/build $(if $(ARCHITECTURE),--for $(ARCHITECTURE)) >/dev/null

.PHONY: invoke
invoke: override ARCHITECTURE := x86_64
invoke: $(RUN_READY) build ## run the built functions in Lambda's image on the events in events/; needs Docker
	@$(PY) tools/invoke.py

.PHONY: certs
certs: ## fetch the current root certificates of Amazon RDS
	@tools/fetch-certs src/certs/rds-global-bundle.pem

$(SAM_READY): requirements-sam.txt local/set-up
	@local/set-up $(SAM_VENV) requirements-sam.txt
	@touch $@
