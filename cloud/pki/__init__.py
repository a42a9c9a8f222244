"""The authority: lets devices in, by certificate, and keeps everybody else out."""
