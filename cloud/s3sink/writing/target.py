"""Where boto3 would send a write, and how: the URL, the region and the headers that its configuration decides.

boto3 knows dozens of settings, such as the address of the endpoint, the style of the address, dual-stack and FIPS
endpoints and the region to which a bucket has redirected. So boto3 prepares a write, and is stopped before it signs it.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from botocore.exceptions import BotoCoreError

from cloud.s3sink.settings import Encryption
from wire.errors import FacewireError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_KEY = "facewire-key-of-no-object"
_KEPT_HEADERS = "x-amz-server-side-encryption"
"""Prefix of the headers that are the same for each write."""
_SIGNATURES = frozenset(("s3v4", "v4"))
_UNSAFE = re.compile(r"[^A-Za-z0-9/._~-]+")
"""What is percent-encoded in a key. ``quote`` takes each character of a whole key for itself, which is slow."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


class NotPossible(FacewireError):
    """Only boto3 can write with this configuration."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where writes go."""

    url: str
    """Scheme and host, which boto3 uses to look for a proxy."""
    scheme: str
    hostname: str
    port: int
    host: str
    """The header."""
    base_path: str
    """Percent-encoded path in front of the key."""
    region: str
    service: str
    headers: dict[str, str]
    """Headers of each write, in lower case."""

    def path_of(self, key: str) -> str:
        """Return the percent-encoded path of an object."""
        return self.base_path + _UNSAFE.sub(lambda found: quote(found[0], safe=""), key)


class _Prepared(Exception):
    def __init__(self, request: Any, context: dict[str, Any]) -> None:
        super().__init__()
        self.request, self.context = request, context


def find_target(client: "S3Client", bucket: str, encryption: Encryption) -> Target:
    """Return where boto3 would send a write.

    Raises:
        NotPossible: the write has another kind of signature, or none.
    """
    events = client.meta.events
    events.register("before-sign.s3.PutObject", _stop, unique_id="facewire-target")
    try:
        client.put_object(Bucket=bucket, Key=_KEY, Body=b"", **encryption)
    except _Prepared as prepared:
        request, context = prepared.request, prepared.context
    except BotoCoreError as error:
        raise NotPossible(f"boto3 cannot prepare a write: {error}") from None
    finally:
        events.unregister("before-sign.s3.PutObject", unique_id="facewire-target")
    if context["signature_version"] not in _SIGNATURES:
        raise NotPossible(f"writes are signed with {context['signature_version']}, not with Signature Version 4")
    parts = urlsplit(request.url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not parts.path.endswith(_KEY) or parts.query:
        raise NotPossible(f"the address of writes is {request.url}")
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    hostname = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host = hostname if port == _DEFAULT_PORTS[parts.scheme] else f"{hostname}:{port}"
    signing = request.context.get("signing", {})
    return Target(
        url=f"{parts.scheme}://{host}",
        scheme=parts.scheme,
        hostname=parts.hostname,
        port=port,
        host=host,
        base_path=parts.path.removesuffix(_KEY),
        region=signing.get("region") or context["region_name"],
        service=signing.get("signing_name") or context["signing_name"],
        headers={
            name.lower(): _text(value)
            for name, value in request.headers.items()
            if name.lower().startswith(_KEPT_HEADERS)
        },
    )


def _stop(request: Any, **context: Any) -> None:
    if _KEY in request.url:  # other threads may use the client at the same time
        raise _Prepared(request, context)


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
