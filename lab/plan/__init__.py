"""Turns a network into a plan of namespaces, routes and filters; pure."""
