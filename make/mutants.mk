# Mutation tests: one small edit after the other, each in a copy of the working tree.

##@ Prove it

.PHONY: mutants
mutants: $(DEV_READY) ## mutation tests: small edits of code, SQL and templates, which the tests must catch
#? N=150 of them, SEED=1 to repeat a run, SINCE=main for changed lines only
#? ONLY=src/db,infra for some files, TESTS=tests/db for other tests than those of the file
#? RULES="drops a guard,drops a raise" for some kinds of edits, by their names in the report
#? AGAIN=yes for those that survived last time, LIST=yes to list them without running
#? MINIMUM=95 percent must be caught, JOBS=2 at once; ANYWAY=yes skips tests that fail without an edit
	@exec $(PROGRAM) $(TIED) tools.mutants $(options)
