"""Signatures of requests: a module per scheme, and the keys of all. Start with schemes.py.

Nothing is imported here: who manages keys does not need what signs with them.
"""
