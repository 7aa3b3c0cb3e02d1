"""The same two routes as bench/plain.py by the means of several frameworks: see bench/frameworks.py."""
