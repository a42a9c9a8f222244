"""Both ways to write an object: what they send, and what each answer of S3 means."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cloud.pki import certificates
from cloud.s3sink import bucket as bucket_module
from cloud.s3sink.answers import DifferentObject, Outcome, Overloaded, PermanentFailure, TemporaryFailure
from cloud.s3sink.bucket import Bucket
from cloud.s3sink.objects import Kind, S3Object
from cloud.s3sink.settings import WriteSettings
from cloud.s3sink.store_check import Abilities
from cloud.s3sink.writing.boto3_writer import Boto3Writer
from cloud.s3sink.writing.credentials import CurrentCredentials
from cloud.s3sink.writing.http_writer import HttpWriter
from cloud.s3sink.writing.signature import Signer
from cloud.s3sink.writing.target import NotPossible, find_target
from demo.ports import HOST, free_port
from tests.scripted_s3 import CLOSE, OK, Request, Script, ScriptedS3, listing, response
from wire import face

BODY = b"a body"
OBJECT = S3Object(
    key="fa!c_e.s*'(1)/device=d/camera=c/date=2026-11-22/150405.123Z-id.jpg",
    body=BODY,
    content_type="image/jpeg",
    metadata={"id": "1", "Camera": "two  words ", "mqtt-properties": "AAE="},
    receipt_topic=None,
    receipt_id=None,
    kind=Kind.FACE,
    sha256=face.digest_of(BODY),
)
BOTH = pytest.mark.parametrize("kind", [HttpWriter, Boto3Writer])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials and a region, and nothing of this machine's own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    """A server that accepts everything until it is told otherwise."""
    with ScriptedS3(lambda request: [OK]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{HOST}:{server.port}")
        yield server


def make_bucket(kind: type, *, conditional: bool = True, sha256: bool = True, **settings: Any) -> Bucket:
    """A bucket with one of the writers, whose store has been checked."""
    bucket = Bucket(WriteSettings(s3_bucket="faces", **settings), CollectorRegistry())
    bucket._abilities = Abilities(conditional, sha256)
    if kind is HttpWriter:
        bucket.write_without_boto3()
    assert isinstance(bucket.writer, kind)
    return bucket


def write(bucket: Bucket, *objects: S3Object) -> list[Outcome]:
    """Write objects one after the other, and close the connections."""

    async def write_all() -> list[Outcome]:
        try:
            return [await bucket.write(each) for each in objects or (OBJECT,)]
        finally:
            await bucket.close()

    return asyncio.run(write_all())


def puts(server: ScriptedS3) -> list[Request]:
    return [request for request in server.requests if request.method == "PUT"]


def answering(*answers: bytes | object) -> Script:
    """Each request gets the next answer; the last one is repeated."""
    left = list(answers)
    return lambda request: [left.pop(0) if len(left) > 1 else left[0]]


@pytest.mark.parametrize(
    "settings",
    [{}, {"s3_encryption": "AES256"}, {"s3_encryption": "aws:kms", "s3_kms_key_id": "arn:aws:kms:x:1:key/2"}],
)
@pytest.mark.parametrize(("conditional", "sha256"), [(True, True), (False, False)])
def test_both_send_the_same(s3: ScriptedS3, settings: dict[str, str], conditional: bool, sha256: bool):
    """The same object, metadata, conditions, encryption and checksum, up to what a signature and a client add."""
    if not conditional:
        s3.script = lambda request: [OK if request.method == "PUT" else listing(None, 0)]
    for kind in (HttpWriter, Boto3Writer):
        write(make_bucket(kind, conditional=conditional, sha256=sha256, **settings))
    ours, theirs = puts(s3)
    assert (ours.target, ours.body) == (theirs.target, theirs.body)
    ignored = {"authorization", "x-amz-date", "x-amz-content-sha256", "user-agent", "expect", "accept-encoding"}
    ignored |= {"amz-sdk-invocation-id", "amz-sdk-request", "x-amz-sdk-checksum-algorithm"}
    theirs_kept = {name: " ".join(value.split()) for name, value in theirs.headers.items() if name not in ignored}
    assert {name: value for name, value in ours.headers.items() if name not in ignored} == theirs_kept
    assert ours.headers["x-amz-content-sha256"] == OBJECT.sha256
    assert ("if-none-match" in ours.headers) == conditional
    assert ("x-amz-checksum-sha256" in ours.headers) == sha256


def test_a_store_without_checksums_gets_none(s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch):
    """With AWS_REQUEST_CHECKSUM_CALCULATION=when_required, as for boto3."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    write(make_bucket(HttpWriter, sha256=False))
    assert not [name for name in s3.requests[0].headers if "checksum" in name]


_value = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)


@given(
    headers=st.dictionaries(st.from_regex(r"x-amz-meta-[a-z][a-z0-9-]{0,20}", fullmatch=True), _value, max_size=8),
    path=st.from_regex(r"/[A-Za-z0-9%/._~-]{0,40}", fullmatch=True),
    token=st.none() | _value,
    seconds=st.integers(0, 4_000_000_000),
)
def test_each_signature_is_that_of_botocore(headers: dict[str, str], path: str, token: str | None, seconds: int):
    """For any headers, keys and times."""
    headers = {"host": "example.com:9000", "x-amz-content-sha256": "00" * 32, **headers}
    theirs = AWSRequest("PUT", f"http://example.com:9000{path}", headers=dict(headers))
    moment = datetime.fromtimestamp(seconds, UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None))
        patch.setattr(S3SigV4Auth, "payload", lambda self, request: "00" * 32)
        S3SigV4Auth(Credentials("key", "secret", token), "s3", "eu-west-1").add_auth(theirs)
    Signer("eu-west-1", "s3").sign("PUT", path, headers, ReadOnlyCredentials("key", "secret", token), float(seconds))
    assert headers["authorization"] == theirs.headers["Authorization"]
    assert headers["x-amz-date"] == theirs.headers["X-Amz-Date"]


@BOTH
@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (response(400, "EntityTooLarge"), PermanentFailure),
        (response(400, "MetadataTooLarge"), PermanentFailure),
        (response(400, "KeyTooLongError"), PermanentFailure),
        (response(400, "RequestTimeout"), Overloaded),
        (response(400, "ExpiredToken"), TemporaryFailure),
        (response(403, "RequestTimeTooSkewed"), TemporaryFailure),
        (response(403, "AccessDenied"), TemporaryFailure),
        (response(404, "NoSuchBucket"), TemporaryFailure),
        (response(409, "ConditionalRequestConflict"), TemporaryFailure),
        (response(429), Overloaded),
        (response(500, "InternalError"), TemporaryFailure),
        (response(501, "NotImplemented"), TemporaryFailure),
        (response(503, "SlowDown"), Overloaded),
        (response(200), TemporaryFailure),
        (response(200, "InternalError", headers='ETag: "0"\r\n'), TemporaryFailure),
    ],
)
def test_an_answer_other_than_success(s3: ScriptedS3, kind: type, answer: bytes, failure: type[Exception]):
    """Each has one meaning. The reason names S3's code in one line."""
    s3.script = answering(answer)
    with pytest.raises((PermanentFailure, TemporaryFailure)) as raised:
        write(make_bucket(kind))
    assert type(raised.value) is failure
    assert "\n" not in str(raised.value)
    for code in ("AccessDenied", "SlowDown", "ConditionalRequestConflict"):
        assert (code in str(raised.value)) == (code.encode() in answer)


@BOTH
@pytest.mark.parametrize(
    "parts",
    [
        [CLOSE],
        [OK[:10], CLOSE],
        [b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: "0"\r\n\r\nhalf', CLOSE],
        [b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "0"\r\n\r\n5\r\nhal', CLOSE],
        [b"SSH-2.0-OpenSSH\r\n\r\n", CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", CLOSE],
    ],
)
def test_half_an_answer_is_none(s3: ScriptedS3, kind: type, parts: list[bytes | object]):
    """The write is tried again later. If it succeeded, S3 then answers that the object exists."""
    s3.script = lambda request: parts
    with pytest.raises(TemporaryFailure):
        write(make_bucket(kind))


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\netag: "0"\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nETAG:"0"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
        b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 A\r\nA:\r\n\r\nHTTP/1.1 200 \r\nETag:0\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 204 No Content\r\nETag: "0"\r\n\r\n',
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_each_form_of_an_answer_is_understood(s3: ScriptedS3, answer: bytes, piece: int):
    """In pieces of any size, and for several writes."""
    s3.script = lambda request: [answer[at : at + piece] for at in range(0, len(answer), piece)]
    assert write(make_bucket(HttpWriter), OBJECT, OBJECT) == [Outcome.WRITTEN] * 2
    assert s3.connections == (2 if b"close" in answer else 1)


def test_a_head_that_is_cut_is_no_answer(s3: ScriptedS3):
    """Even if it is cut in front of the empty line only."""
    s3.script = lambda request: [OK[:-2], CLOSE]
    with pytest.raises(TemporaryFailure, match="ended before it was complete"):
        write(make_bucket(HttpWriter))


def test_an_answer_that_ends_with_the_connection_is_understood(s3: ScriptedS3):
    """As in HTTP/1.0."""
    s3.script = lambda request: [b'HTTP/1.0 200 OK\r\nETag: "0"\r\n\r\nany text', CLOSE]
    assert write(make_bucket(HttpWriter), OBJECT, OBJECT) == [Outcome.WRITTEN] * 2


@BOTH
@pytest.mark.parametrize("status", [304, 412])
def test_an_object_that_exists_is_believed_only_if_it_is_listed(s3: ScriptedS3, kind: type, status: int):
    """With its size. Otherwise the write is tried again, or refused."""
    bucket, answer = make_bucket(kind), response(status, "PreconditionFailed" if status == 412 else "")
    s3.script = lambda request: [answer if request.method == "PUT" else listing(OBJECT.key, len(BODY))]
    assert write(bucket) == [Outcome.ALREADY_THERE]
    bucket = make_bucket(kind)
    s3.script = lambda request: [answer if request.method == "PUT" else listing(OBJECT.key + "x", len(BODY))]
    with pytest.raises(TemporaryFailure, match="does not list it"):
        write(bucket)
    bucket = make_bucket(kind)
    s3.script = lambda request: [answer if request.method == "PUT" else listing(OBJECT.key, 1)]
    with pytest.raises(DifferentObject):
        write(bucket)


@BOTH
def test_a_conflict_is_not_taken_for_an_object_that_exists(s3: ScriptedS3, kind: type):
    """409: a conflicting write is under way, and may fail. No listing is asked for."""
    s3.script = answering(response(409, "ConditionalRequestConflict"), OK)
    bucket = make_bucket(kind)
    with pytest.raises(TemporaryFailure):
        write(bucket)
    bucket = make_bucket(kind)
    assert write(bucket) == [Outcome.WRITTEN]
    assert {request.method for request in s3.requests} == {"PUT"}


@BOTH
def test_a_server_that_does_not_answer_is_overloaded(s3: ScriptedS3, kind: type, monkeypatch: pytest.MonkeyPatch):
    """After the timeout. Its connection is not used again."""
    monkeypatch.setattr(bucket_module, "READ_SECONDS", 0.3)
    s3.script = lambda request: []
    bucket = make_bucket(kind)
    with pytest.raises(Overloaded):
        write(bucket)
    s3.script = lambda request: [OK]
    assert write(bucket) == [Outcome.WRITTEN]
    assert s3.connections == 2


@BOTH
def test_a_server_that_is_not_there_is_a_temporary_failure(kind: type, monkeypatch: pytest.MonkeyPatch):
    """The reason names it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{HOST}:{(port := free_port())}")
    with pytest.raises(TemporaryFailure, match=str(port)):
        write(make_bucket(kind))


def test_a_connection_that_was_closed_while_it_was_idle_is_replaced(s3: ScriptedS3):
    """Whether this side has noticed or not. The write does not fail."""

    def script(request: Request) -> list[bytes | object]:
        is_second = sum(each.connection == request.connection for each in s3.requests) == 2
        return [CLOSE] if is_second else [OK]

    s3.script = script
    assert write(make_bucket(HttpWriter), *[OBJECT] * 4) == [Outcome.WRITTEN] * 4
    assert s3.connections == 4


def test_bytes_that_nobody_asked_for_close_the_connection(s3: ScriptedS3):
    """They would be taken for the next answer."""
    s3.script = answering(OK + response(500, "InternalError"), OK)
    assert write(make_bucket(HttpWriter), OBJECT, OBJECT) == [Outcome.WRITTEN] * 2
    assert s3.connections == 2


def test_connections_are_used_again(s3: ScriptedS3):
    """As many as writes are under way, and no more."""

    async def write_many(bucket: Bucket) -> None:
        for _ in range(5):
            await asyncio.gather(*(bucket.write(OBJECT) for _ in range(4)))
        await bucket.close()

    asyncio.run(write_many(make_bucket(HttpWriter)))
    assert (len(s3.requests), s3.connections) == (20, 4)


def test_metadata_cannot_forge_a_header(s3: ScriptedS3):
    """Nothing is sent."""
    for metadata in ({"a": "b\r\nx-amz-acl: public-read"}, {"a: b\r\nc": "d"}, {"a": "\u00e9"}, {"": "a"}):
        with pytest.raises(PermanentFailure):
            write(make_bucket(HttpWriter), replace(OBJECT, metadata=metadata))
    assert not s3.requests


@pytest.mark.parametrize(
    "answer", [(301, "PermanentRedirect"), (307, "TemporaryRedirect"), (400, "AuthorizationHeaderMalformed")]
)
def test_a_bucket_in_another_region_is_found(s3: ScriptedS3, answer: tuple[int, str]):
    """boto3 follows the redirect, and further writes go there at once."""

    def script(request: Request) -> list[bytes | object]:
        if "/us-west-2/s3/" in request.headers["authorization"]:
            return [OK]
        return [response(*answer, headers="x-amz-bucket-region: us-west-2\r\n", more="<Region>us-west-2</Region>")]

    s3.script = script
    assert write(make_bucket(HttpWriter), OBJECT, OBJECT, OBJECT) == [Outcome.WRITTEN] * 3
    refused = [request for request in puts(s3) if "/us-west-2/s3/" not in request.headers["authorization"]]
    assert len(refused) <= 2, "one of ours, and one of boto3"


@contextmanager
def config_file(path: Path, text: str) -> Iterator[None]:
    path.write_text(f"[default]\n{text}\n")
    yield
    path.unlink()


@pytest.mark.parametrize(
    ("environ", "config", "url", "path"),
    [
        ({}, "", "https://faces.s3.eu-west-1.amazonaws.com", "/a/b%20c"),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_DEFAULT_REGION": "us-east-1"},
            "",
            "https://faces.s3-fips.us-east-1.amazonaws.com",
            "/a/b%20c",
        ),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "", "https://faces.s3.dualstack.eu-west-1.amazonaws.com", "/a/b%20c"),
        ({}, "s3 =\n  addressing_style = path", "https://s3.eu-west-1.amazonaws.com", "/faces/a/b%20c"),
        ({}, "s3 =\n  use_accelerate_endpoint = true", "https://faces.s3-accelerate.amazonaws.com", "/a/b%20c"),
        ({"AWS_ENDPOINT_URL": "http://minio:9000"}, "", "http://minio:9000", "/faces/a/b%20c"),
        ({"AWS_ENDPOINT_URL_S3": "http://[::1]:9000/base"}, "", "http://[::1]:9000", "/base/faces/a/b%20c"),
        (
            {"AWS_ENDPOINT_URL_S3": "https://s3.example.com"},
            "s3 =\n  addressing_style = virtual",
            "https://faces.s3.example.com",
            "/a/b%20c",
        ),
    ],
)
def test_writes_go_where_boto3_sends_them(
    environ: dict[str, str], config: str, url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever of its settings decides."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with config_file(tmp_path / "config", config):
        bucket = Bucket(WriteSettings(s3_bucket="faces"), CollectorRegistry())
        target = find_target(bucket.client, "faces", {})
    assert (target.url, target.path_of("a/b c"), target.service) == (url, path, "s3")
    assert target.region == environ.get("AWS_DEFAULT_REGION", "eu-west-1")


def test_what_only_boto3_can_do_is_left_to_it(s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch):
    """Proxies, and signatures of another kind."""
    with monkeypatch.context() as patch:
        patch.setenv("http_proxy", f"http://{HOST}:{s3.port}")
        patch.setenv("no_proxy", "")
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.com")
        bucket = Bucket(WriteSettings(s3_bucket="faces"), CollectorRegistry())
        bucket._abilities = Abilities(True, True)
        bucket.write_without_boto3()
        assert isinstance(bucket.writer, Boto3Writer)
        assert write(bucket) == [Outcome.WRITTEN]
    assert s3.requests[-1].target.startswith("http://s3.example.com/faces/")
    bucket = Bucket(WriteSettings(s3_bucket="faces--use1-az4--x-s3"), CollectorRegistry())
    with pytest.raises(NotPossible, match="signed with v4-s3express"):
        find_target(bucket.client, bucket.name, {})


def test_the_time_of_s3_is_noted(s3: ScriptedS3):
    """From the answers to writes."""
    s3.script = answering(response(200, headers='ETag: "0"\r\nDate: Fri, 01 Jan 2100 00:00:00 GMT\r\n'))
    write(bucket := make_bucket(HttpWriter))
    now = bucket.clock.now()
    assert now is not None
    assert now.year == 2100


@BOTH
@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_private_authority_is_trusted_if_it_is_named(
    kind: type, is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """AWS_CA_BUNDLE is for both."""
    authority = certificates.make_authority(certificates.make_key())
    key = certificates.make_key()
    certificate = certificates.issue(authority, "s3", key, [ExtendedKeyUsageOID.SERVER_AUTH], hosts=[HOST])
    for name, data in (
        ("ca.pem", certificates.pem(authority.certificate)),
        ("cert.pem", certificates.pem(certificate)),
        ("key.pem", certificates.pem(key)),
    ):
        (tmp_path / name).write_bytes(data)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with ScriptedS3(lambda request: [OK], context) as server_:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://{HOST}:{server_.port}")
        if is_trusted:
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
            assert write(make_bucket(kind), OBJECT, OBJECT) == [Outcome.WRITTEN] * 2
            assert server_.connections == 1
        else:
            with pytest.raises(TemporaryFailure, match="CERTIFICATE_VERIFY_FAILED"):
                write(make_bucket(kind))


class Source:
    """Credentials that expire, and a way to refresh them."""

    def __init__(self, seconds: float) -> None:
        self.calls = 0
        self.failure: Exception | None = None
        self.credentials: Any = RefreshableCredentials(
            "old", "secret", "token", datetime.now(UTC) + timedelta(seconds=seconds), self.refresh, "test"
        )

    def refresh(self) -> dict[str, str]:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        expiry = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return {"access_key": "new", "secret_key": "secret", "token": "token", "expiry_time": expiry}


def keys_of(source: Source, count: int) -> list[str | None]:
    """The access keys of several writes one after the other."""
    bucket = Bucket(WriteSettings(s3_bucket="faces"), CollectorRegistry())

    async def get() -> list[str | None]:
        current = CurrentCredentials(source.credentials, bucket._threads)
        keys = []
        for _ in range(count):
            keys.append((await current.get()).access_key)
            await asyncio.sleep(0.02)
        return keys

    return asyncio.run(get())


def test_credentials_that_have_expired_are_refreshed_first():
    """Once."""
    source = Source(-10)
    assert keys_of(source, 5) == ["new"] * 5
    assert source.calls == 1


def test_credentials_that_cannot_be_refreshed_are_used_until_they_expire():
    """A service that gives none for minutes does not stop the writes."""
    source = Source(3600)

    async def get() -> list[str | None]:
        bucket = Bucket(WriteSettings(s3_bucket="faces"), CollectorRegistry())
        current = CurrentCredentials(source.credentials, bucket._threads)
        keys = [(await current.get()).access_key]
        source.failure = OSError("no answer")
        source.credentials._expiry_time = datetime.now(UTC) + timedelta(seconds=60)  # within the mandatory refresh
        for _ in range(5):
            keys.append((await current.get()).access_key)
            await asyncio.sleep(0.02)
        source.credentials._expiry_time = datetime.now(UTC) - timedelta(seconds=1)
        with pytest.raises(TemporaryFailure, match="no answer"):
            await current.get()
        source.failure = None
        keys.append((await current.get()).access_key)
        return keys

    assert asyncio.run(get()) == ["old"] * 6 + ["new"]
    assert source.calls == 3, "not with each write"


def test_an_expired_token_does_not_end_the_writes(s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch):
    """The token of each write is that of now, and is signed."""
    source = Source(-10)
    bucket = Bucket(WriteSettings(s3_bucket="faces"), CollectorRegistry())
    bucket._abilities = Abilities(True, True)
    monkeypatch.setattr(bucket._session, "get_credentials", lambda: source.credentials)
    bucket.write_without_boto3()
    assert write(bucket) == [Outcome.WRITTEN]
    (request,) = s3.requests
    assert request.headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in request.headers["authorization"]
    assert abs(time.time() - datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z").timestamp()) < 60
