"""The gallery: shows the faces in S3 in a browser, as they arrive."""
