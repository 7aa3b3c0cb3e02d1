# Deploying with a guard. None of it ran against AWS from here: see docs/operations.md#deploy.

##@ Deploy it

.PHONY: guard
guard: $(DEV_READY) ## refuse a change set that loses what must stay: CHANGE_SET=arn, or RECORDED=folder; ALLOW=A,B lets A and B go
	@$(PY) -m stack.guard $(if $(CHANGE_SET),--change-set "$(CHANGE_SET)") $(if $(STACK),--stack "$(STACK)") \
		$(if $(RECORDED),--recorded $(RECORDED)) $(if $(ALLOW),--allow "$(ALLOW)") $(if $(REGION),--region "$(REGION)")
