# Do the tests notice? One small edit after the other, each in a copy of the working tree.

##@ Prove it

.PHONY: mutants
mutants: $(DEV_READY) ## edit code, SQL and templates in small ways: tests must notice
#? N=150 of them, SEED=1 for the same again, SINCE=main for a change alone
#? ONLY=src/db,infra for some files, TESTS=tests/db for other tests than theirs
#? RULES="drops a guard,drops a raise" for some kinds of edits, as the report names them
#? AGAIN=yes for those that survived last time, LIST=yes to see them first
#? MINIMUM=95 percent to be caught, JOBS=2 at once; ANYWAY=yes goes on without tests that fail unedited
	@$(PY) -m tools.mutants $(call number,N,--count,150) $(call number,SEED,--seed,1) $(if $(SINCE),--since "$(SINCE)") \
		$(if $(ONLY),--only "$(ONLY)") $(if $(TESTS),--tests "$(TESTS)") $(if $(RULES),--rules "$(RULES)") $(call number,JOBS,--jobs,2) \
		$(call number,MINIMUM,--minimum,95) $(call switch,AGAIN,--again) $(call switch,ANYWAY,--anyway) $(call switch,LIST,--list)
