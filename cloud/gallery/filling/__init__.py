"""Fill the index: live with what the sink announces, and from S3 with what came meanwhile."""
