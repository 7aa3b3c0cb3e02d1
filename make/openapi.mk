##@ Update the generated documents

.PHONY: openapi
openapi: $(DEV_READY) ## note the contract of the API in tests/unit/contract.txt, after a change of it
	@$(PROGRAM) tools.openapi
