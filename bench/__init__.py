"""Side-by-side benchmarks, printed by `make bench`. Nothing here ships to Lambda, and no test asserts on a clock."""
