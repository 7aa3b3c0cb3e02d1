"""The lab: a VPC on one machine, made of Linux network namespaces from a `Network` (stack/network/model.py), and
packets in it.

`plan` says what to make (pure), `kernel` makes it and sends packets, `oracle` says what should become of them.
See README.md here for the modules, and docs/lab.md.
"""
