"""The sink: writes each face to S3 exactly once, and signs for it."""
