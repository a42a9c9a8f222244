"""``make compose-test``: build and run both compose files on a real Docker Engine."""
