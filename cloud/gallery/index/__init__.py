"""The index of the faces in S3, in SQLite. S3 is the truth: the index can be deleted, and is filled again."""
