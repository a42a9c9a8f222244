"""How the sink behaves when S3 answers wrongly: each answer, for all keys, one prefix and one key, for some time."""
