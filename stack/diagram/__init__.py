"""Pictures of a network, as SVG."""
