"""Where networks come from: our own templates for given parameters, or a stack that is deployed."""
