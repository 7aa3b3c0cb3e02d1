##@ Update the generated documents

.PHONY: layers
layers: $(DEV_READY) ## draw the layers in docs/architecture.md from the import contracts
	@$(PROGRAM) tools.layers
