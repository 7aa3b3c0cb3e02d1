"""The whole stack on one machine, for development and for the end-to-end tests. Nothing here ships to Lambda."""
