"""The report of a run, as text, as data and as a picture."""
