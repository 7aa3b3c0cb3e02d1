##@ Update the generated documents

.PHONY: lock
lock: $(DEV_READY) ## write src/requirements.lock: the hashes of what ships, after a change of src/requirements.txt
	@$(PROGRAM) tools.lock
