"""What our templates say, worked out: rendered, read as a network, checked, drawn, priced, deployed with a guard."""
