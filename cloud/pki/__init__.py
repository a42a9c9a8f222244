"""The certificate authority: issues, renews and revokes the certificates of broker, sink and devices."""
