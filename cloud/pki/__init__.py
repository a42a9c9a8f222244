"""The certificate authority: issues, renews and revokes the certificates of broker, sink, gallery and devices."""
