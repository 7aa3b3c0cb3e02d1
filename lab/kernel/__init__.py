"""Makes a plan in the kernel, in a private sandbox, and sends packets in it."""
