# People's access to the database. Not yet tested on AWS: see docs/people-and-database.md#let-a-person-query-it.

##@ Build and deploy

.PHONY: db-shell
db-shell: $(DEV_READY) ## psql on a stack's database through its bastion: STACK=sallyport-dev
#? ROLE=owner, REGION=eu-central-1, ARGS="-c 'SELECT 1'" for psql
#! STACK=
	@$(PROGRAM) stack.db_shell $(options) $(ARGS)
