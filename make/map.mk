##@ Update the generated documents

.PHONY: map
map: $(DEV_READY) ## draw the network of each design from the templates into docs/maps
	@$(PROGRAM) stack.diagram
