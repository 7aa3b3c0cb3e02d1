"""`make mutants`: one small edit after the other in code, SQL and templates, each of which some test must catch."""
