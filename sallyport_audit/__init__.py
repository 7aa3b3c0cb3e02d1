"""An offline verifier of Sallyport's audit log: `python -m sallyport_audit verify export.jsonl`.

It needs Python and nothing else, and shares no code with what writes the log. What it checks is in docs/audit.md.
"""
