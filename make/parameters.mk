##@ Update the generated documents

.PHONY: parameters
parameters: $(DEV_READY) ## write docs/parameters.md: every parameter, refusal and output, from the templates
	@$(PY) -m stack.parameters docs/parameters.md
