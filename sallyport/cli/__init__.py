"""The command line: `sallyport`. Every command prints for people, or with --json for programs (docs/cli.md)."""
