"""The cloud: the broker's configuration, the certificate authority, the sink that writes to S3, and the gallery."""
