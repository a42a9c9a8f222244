"""Every test of a broker or of S3 talks to a real one."""
