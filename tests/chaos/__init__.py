"""Chaos: kill the real processes and cut the real links at random, then count the faces."""
