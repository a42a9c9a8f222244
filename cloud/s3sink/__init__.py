"""The sink: writes each face to S3 exactly once, and sends a receipt for it."""
