"""What a run found, as text, as data and as a picture."""
