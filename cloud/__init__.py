"""The cloud: the broker's configuration, the certificate authority, and the sink that writes faces to S3."""
