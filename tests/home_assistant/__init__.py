"""What Home Assistant makes of the announcement: its rules, as documented, and Home Assistant itself."""
