"""From a network to what the kernel must be told; pure."""
