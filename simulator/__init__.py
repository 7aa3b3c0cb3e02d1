"""The simulator: the real flows over real PostgreSQL, under a seeded schedule of everything that can go wrong.

Time, queue, Lambda and partners are models; whatever they choose comes from one tape of integers, so that a seed can be
played again, made smaller and looked at. docs/proof.md says what is proved and what is not.
"""
