"""Chaos test: inject random faults into the real processes and links, then count the faces."""
