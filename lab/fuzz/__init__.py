"""The oracle against packets, on networks made at random; and on plans with a mistake, which must be noticed."""
