"""The lab: a VPC on one machine, made of Linux network namespaces from a `Network` (stack/network/model.py), and
packets in it.

`plan` says what to make (pure), `realise` makes it, `probe` sends packets, `oracle` says what should become of them.
See docs/lab.md.
"""
