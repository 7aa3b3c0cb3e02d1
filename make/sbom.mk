##@ Build and deploy

.PHONY: sbom
sbom: $(DEV_READY) ## list the parts of the package that make build made, as CycloneDX
	@$(PROGRAM) tools.sbom
