"""The lab: a VPC on one machine, made of Linux network namespaces from a `stack.network.Network`, and packets in it.

`plan` says what to make (pure), `realise` makes it, `probe` sends packets, `oracle` says what should become of them.
See docs/lab.md.
"""
