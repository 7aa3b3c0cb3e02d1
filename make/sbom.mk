##@ Deploy

.PHONY: sbom
sbom: $(DEV_READY) ## list the parts of the built package in .aws-sam/build/sallyport.cdx.json (CycloneDX), after make build
	@$(PROGRAM) tools.sbom
