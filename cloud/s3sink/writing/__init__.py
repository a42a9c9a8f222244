"""The two ways to write an object to S3: with requests of our own, or with boto3."""
