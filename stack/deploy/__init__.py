"""Deploying with a guard: change sets read and judged, carried out and followed under a stack policy."""
