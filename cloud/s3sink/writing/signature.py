"""Signs requests to S3 with AWS Signature Version 4, ten times faster than botocore does.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

The tests compare each signature with that of botocore.
"""

import hashlib
import hmac
import time
from dataclasses import dataclass, field

from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(slots=True)
class Signer:
    """Signs requests for one region and one service."""

    region: str
    service: str
    _cached_for: tuple[str, str] = field(default=("", ""), repr=False)
    """Secret key and day of the cached signing key."""
    _signing_key: bytes = field(default=b"", repr=False)

    def sign(
        self, method: str, path: str, headers: dict[str, str], credentials: ReadOnlyCredentials, now: float
    ) -> None:
        """Add the headers ``x-amz-date``, ``x-amz-security-token`` and ``authorization``.

        Args:
            method: of the request.
            path: percent-encoded. The request has no query.
            headers: all headers of the request, in lower case, with ``host`` and ``x-amz-content-sha256``. All are
                signed. Values have neither spaces at the ends nor several spaces in a row.
            credentials: the key pair, and the token of temporary credentials.
            now: seconds since the epoch.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers["x-amz-date"] = moment
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = sorted(headers)
        signed_names = ";".join(names)
        canonical_headers = "".join([f"{name}:{headers[name]}\n" for name in names])
        canonical = f"{method}\n{path}\n\n{canonical_headers}\n{signed_names}\n{headers['x-amz-content-sha256']}"
        scope = f"{moment[:8]}/{self.region}/{self.service}/aws4_request"
        to_sign = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(credentials.secret_key or "", moment[:8]), to_sign.encode(), "sha256").hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed_names}, Signature={signature}"
        )

    def _key(self, secret_key: str, day: str) -> bytes:
        if self._cached_for != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self.region, self.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._cached_for, self._signing_key = (secret_key, day), key
        return self._signing_key
