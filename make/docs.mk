##@ What it costs

.PHONY: cost-idle
cost-idle: ## what a stack costs per month while nobody uses it, by stage, from tools/prices.toml
	@$$(local/find-python) tools/cost_idle.py
