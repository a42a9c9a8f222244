"""Writes objects with requests of its own, on the event loop, for a tenth of what boto3 costs.

boto3 says where and how: :mod:`cloud.s3sink.writing.target`. A request differs from one of boto3 in three points. It
does not wait for "100 Continue", which takes a round trip. Its signature covers the body, whose SHA-256 is known
already. It has no checksum in a trailer.
"""

import base64
import re
import ssl
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore.credentials import Credentials
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from yarl import URL

from cloud.s3sink.answers import Overloaded, PermanentFailure, TemporaryFailure
from cloud.s3sink.objects import S3Object
from cloud.s3sink.settings import Encryption
from cloud.s3sink.writing.credentials import CurrentCredentials
from cloud.s3sink.writing.signature import Signer
from cloud.s3sink.writing.target import NotPossible, find_target
from cloud.s3sink.writing.writer import Answer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_IDLE_SECONDS = 60.0
"""A connection that has been idle for longer is not used again. Something on the way may have forgotten it."""
_DNS_SECONDS = 30
"""How long an address of S3 is used before its name is resolved again."""
_MAX_BODY_BYTES = 1 << 20
_CODE, _MESSAGE = re.compile(rb"<Code>([^<]*)</Code>"), re.compile(rb"<Message>([^<]*)</Message>")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A name of a header (RFC 9110, section 5.6.2)."""


@dataclass(frozen=True, slots=True)
class Response:
    """The response to one request."""

    status: int
    headers: Mapping[str, str]
    """Their names match in any case."""
    body: bytes


class HttpWriter:
    """Writes objects to one bucket."""

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        encryption: Encryption,
        credentials: Credentials | None,
        ca_bundle: str | None,
        threads: Executor,
        timeouts: tuple[float, float],
    ) -> None:
        """Prepare to write as ``client`` would.

        Args:
            client: its configuration decides about address, region and checksums.
            bucket: the name.
            encryption: what each write requests.
            credentials: those of the client.
            ca_bundle: file with the certificates to trust; None: those that boto3 trusts.
            threads: in which credentials are refreshed.
            timeouts: seconds to wait for a connection, and for an answer.

        Raises:
            NotPossible: the client is configured for something that is not possible here.
        """
        self._target = target = find_target(client, bucket, encryption)
        if credentials is None:
            raise NotPossible("there are no credentials")
        if get_environ_proxies(target.url).get(target.scheme):
            raise NotPossible("there is a proxy for S3")
        self._credentials = CurrentCredentials(credentials, threads)
        self._signer = Signer(target.region, target.service)
        config: Any = client.meta.config
        self._connect_seconds, self._read_seconds = timeouts
        self._sends_crc32 = config.request_checksum_calculation != "when_required"
        self._tls = _tls_context(ca_bundle) if target.scheme == "https" else None
        self._client: aiohttp.ClientSession | None = None

    async def put(self, s3_object: S3Object, *, conditional: bool, sha256: bool) -> Answer:
        """Write an object; see :class:`cloud.s3sink.writing.writer.Writer`."""
        credentials = await self._credentials.get()
        body = s3_object.body
        headers = {
            "host": self._target.host,
            "content-length": str(len(body)),
            "content-type": s3_object.content_type,
            "x-amz-content-sha256": s3_object.sha256,
            **self._target.headers,
        }
        for name, value in s3_object.metadata.items():
            headers[f"x-amz-meta-{_checked_name(name)}"] = _checked_value(name, value)
        if conditional:
            headers["if-none-match"] = "*"
        if sha256:
            headers["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(s3_object.sha256)).decode("ascii")
        elif self._sends_crc32:
            headers["x-amz-checksum-crc32"] = base64.b64encode(zlib.crc32(body).to_bytes(4)).decode("ascii")
        path = self._target.path_of(s3_object.key)
        self._signer.sign("PUT", path, headers, credentials, time.time())
        try:
            response = await self._request(path, headers, body)
        except TimeoutError as error:
            raise Overloaded(f"no answer from {self._target.url} in time: {_one_line(error)}") from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError):
            raise TemporaryFailure(f"the response from {self._target.url} ended before it was complete") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TemporaryFailure(f"no answer from {self._target.url}: {_one_line(error)}") from None
        return _answer_of(response)

    async def close(self) -> None:
        """Close all connections. The writes under way fail."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _request(self, path: str, headers: dict[str, str], body: bytes) -> Response:
        """Send a request, and return the response.

        If the server has closed an idle connection, aiohttp sends the request once more. If S3 has taken the first one,
        it answers 412 to the second.
        """
        url = URL(self._target.url + path, encoded=True)
        async with self._http().put(url, data=body, headers=headers, allow_redirects=False) as response:
            content = b""
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > _MAX_BODY_BYTES:
                    raise ValueError("the body of the response is too long")
            return Response(response.status, response.headers, content)

    def _http(self) -> aiohttp.ClientSession:
        """Return the client, which is made on the event loop that uses it."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the sink limits the number of writes at once
                    ssl=self._tls or False,
                    keepalive_timeout=MAX_IDLE_SECONDS,
                    ttl_dns_cache=_DNS_SECONDS,
                ),
                timeout=aiohttp.ClientTimeout(sock_connect=self._connect_seconds, sock_read=self._read_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            )
        return self._client


def _answer_of(response: Response) -> Answer:
    code, message = _error_in(response.body)
    status = response.status
    if code and status < 300:  # S3 may begin to answer before it knows the result
        status = 500
    return Answer(status, code, message, response.headers.get("etag", ""), response.headers.get("date"))


def _error_in(body: bytes) -> tuple[str, str]:
    """Return code and message of an error document; empty if there is none.

    Its two elements are searched for. An XML parser could be made to expand entities.
    """
    if b"<Error" not in body:
        return "", ""
    code, message = (pattern.search(body) for pattern in (_CODE, _MESSAGE))
    return _text(code), _text(message)


def _text(found: re.Match[bytes] | None) -> str:
    return unescape(found[1].decode("utf-8", "replace")).strip() if found else ""


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PermanentFailure(f"the metadata has a name that HTTP does not allow: {name!r}")
    return name.lower()


def _checked_value(name: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise PermanentFailure(f"the metadata {name} is not printable ASCII")
    return " ".join(value.split()) if "  " in value or value != value.strip() else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle or get_cert_path(True))
    context.set_alpn_protocols(["http/1.1"])
    return context
