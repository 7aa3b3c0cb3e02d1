"""The oracle against packets, on random networks; and on mutants: plans with a mistake, which it must detect."""
