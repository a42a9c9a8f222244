"""``make compose-test``: both compose files, built and run on a real Docker Engine."""
