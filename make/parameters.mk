##@ Update the generated documents

.PHONY: parameters
parameters: $(DEV_READY) ## write docs/parameters.md: every parameter, refusal and output, from the templates
	@$(PROGRAM) stack.parameters docs/parameters.md
