"""What must hold of every design, what must break it, and the run."""
