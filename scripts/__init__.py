"""Scripts for developers. Nothing here is part of an image."""
