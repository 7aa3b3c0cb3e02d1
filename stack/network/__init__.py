"""A VPC as data: its model, how it is read from templates and stored, and who can reach whom in it."""
