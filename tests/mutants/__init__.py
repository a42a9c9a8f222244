"""Mutants: deliberate defects, each of which must be caught by a named test."""
