"""What one Region carries: the limits on the way of a delivery, on paper and by simulation."""
