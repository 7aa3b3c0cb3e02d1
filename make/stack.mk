# The stack: what is checked, built and run with the AWS SAM CLI, which has an environment of its own.

SAM_VENV := .venv-sam
SAM_READY := $(SAM_VENV)/.ready
SAM := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=$(or $(AWS_DEFAULT_REGION),us-east-1) PATH="$(CURDIR)/$(SAM_VENV)/bin:$$PATH" $(SAM_VENV)/bin/sam
TEMPLATES := template.yaml $(wildcard infra/*.yaml)

# The tests read the templates with the SAM CLI's own providers.
test cov: $(SAM_READY)

##@ Work on it

.PHONY: validate
validate: $(SAM_READY) ## lint every template: sam validate and cfn-lint; part of make check
	@echo "== templates"
	@$(SAM) validate --lint
	@$(SAM_VENV)/bin/cfn-lint -- $(TEMPLATES)

##@ Build and deploy

.PHONY: build
build: $(SAM_READY) ## build and check the functions' packages in .aws-sam/build
#? ARCHITECTURE=x86_64 for that processor
	@$(if $(filter-out arm64 x86_64,$(ARCHITECTURE)),$(error ARCHITECTURE=$(ARCHITECTURE) is neither arm64 nor x86_64))
	@$(SAM) build $(if $(ARCHITECTURE),--parameter-overrides Architecture=$(ARCHITECTURE))
	@$(SAM_VENV)/bin/python tools/package.py check .aws-sam/build/ApiFunction
	@$(SAM_VENV)/bin/python tools/package.py built .aws-sam/build $(if $(ARCHITECTURE),--for $(ARCHITECTURE)) >/dev/null

.PHONY: invoke
invoke: override ARCHITECTURE := x86_64
invoke: $(RUN_READY) container-engine build ## run the built functions in Lambda's image on the events in events/; needs Docker
#! docker
	@$(PROGRAM) tools.invoke

.PHONY: container-engine
container-engine:
	@docker info >/dev/null 2>&1 || \
		{ echo "make invoke needs a running container engine: \`docker info\` fails. Start Docker and try again." >&2; exit 1; }

.PHONY: certs
certs: ## fetch the current root certificates of Amazon RDS
#? REGION=us-gov-west-1 or cn-north-1 for those of GovCloud or China, which are apart
	@tools/fetch-certs src/certs/rds-global-bundle.pem $(call quoted,$(REGION))

$(SAM_READY): requirements-sam.txt local/set-up
	@local/set-up $(SAM_VENV) requirements-sam.txt
	@touch $@
