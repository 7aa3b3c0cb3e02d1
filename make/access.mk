##@ Update the generated documents

.PHONY: access
access: $(DEV_READY) ## write docs/access.md: who may do what in AWS, in the database and with a token
	@$(PROGRAM) tools.access
