"""What runs in the cloud: the cloud broker's configuration and the sink that writes faces to S3."""
