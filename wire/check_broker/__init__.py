"""Tells of any broker whether it can carry Facewire."""
