"""The check of the store, and what the sink does with a store that is not like AWS."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from botocore.config import Config

from cloud.s3sink.answers import TemporaryFailure
from cloud.s3sink.settings import WriteSettings
from cloud.s3sink.store_check import Abilities, StoreCheck, size_of
from demo.ports import HOST
from demo.program import ROOT, await_true
from demo.stack import ACCESS_KEY, BUCKET, Stack
from tests.builders import Peer, make_face, make_faces, make_jpeg
from tests.chaos.s3proxy import Answer, S3Fault, S3Proxy, _Message
from tests.other_stores import IgnoringStore, NotImplementedStore, NotModifiedStore
from wire import face

FACES = "devices/jetson-1/faces/door"
LIKE_AWS = Abilities(conditional_writes=True, sha256=True)
WITHOUT_CONDITION = Abilities(conditional_writes=False, sha256=True)


@contextmanager
def store(servers: Stack, kind: type[S3Proxy]) -> Iterator[S3Proxy]:
    """A store of a given kind."""
    with kind(servers.s3_port, seed=1) as proxy:
        if isinstance(proxy, IgnoringStore):
            proxy.client = servers.s3()
        yield proxy


def check(servers: Stack, proxy: S3Proxy, prefix: str) -> StoreCheck:
    """A check with its own prefix, so that nothing is there."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}:{proxy.port}",
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=servers.secret_key,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=2),
    )
    return StoreCheck(client, WriteSettings(s3_bucket=BUCKET, s3_prefix=prefix))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (S3Proxy, LIKE_AWS),
        (NotModifiedStore, LIKE_AWS),
        (NotImplementedStore, WITHOUT_CONDITION),
        (IgnoringStore, WITHOUT_CONDITION),
    ],
)
def test_the_check_finds_out_what_a_store_can_do(servers: Stack, kind: type[S3Proxy], expected: Abilities):
    """The first time, and when its object is there already."""
    prefix = f"check-{kind.__name__}"
    with store(servers, kind) as proxy:
        for _ in range(2):
            assert check(servers, proxy, prefix).run() == expected
        assert check(servers, proxy, prefix).run(read=True).metadata is True
    assert set(servers.keys()) & {f"{prefix}/store-check"} == set()


@pytest.mark.parametrize("answer", [each for each in Answer if each is not Answer.SLOW])
def test_a_passing_fault_is_never_taken_for_an_ability(servers: Stack, answer: Answer):
    """As long as S3 answers wrongly, nothing is concluded."""
    with store(servers, S3Proxy) as proxy:
        proxy.fault = S3Fault(answer, after=False, share=1.0)
        with pytest.raises(TemporaryFailure):
            check(servers, proxy, f"fault-{answer.name.lower()}").run()


@pytest.mark.parametrize("kind", [NotModifiedStore, NotImplementedStore, IgnoringStore])
def test_with_any_store_each_face_has_one_object_and_a_receipt(stack: Stack, kind: type[S3Proxy]):
    """However often it is sent, also while another copy of it is being written."""
    stack.start_servers()
    made = make_faces(10, jpeg=make_jpeg())
    with store(stack, kind) as proxy:
        stack.start_connected("s3sink", AWS_ENDPOINT_URL_S3=f"http://{HOST}:{proxy.port}")
        with Peer(stack.watch_port, "devices/+/receipts/+") as device:
            for _ in range(3):
                for seen in made:
                    device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))
            device.await_messages(30, 20)
        log = stack.programs["s3sink"].output()
        assert ("the store has no conditional writes" in log) == (kind is not NotModifiedStore)
        written = [count for path, count in proxy.written.items() if path.endswith(".jpg")]
        assert written == [1] * 10
    assert len(stack.keys()) == 10


def test_nothing_is_written_before_the_check_has_succeeded(stack: Stack):
    """The messages wait, and are stored afterwards."""
    stack.start_servers()
    with store(stack, S3Proxy) as proxy:
        proxy.fault = S3Fault(Answer.NOT_IMPLEMENTED, after=False, share=1.0, under=f"/{BUCKET}/faces/store-check")
        sink = stack.start_connected("s3sink", AWS_ENDPOINT_URL_S3=f"http://{HOST}:{proxy.port}")
        seen = make_face(jpeg=make_jpeg())
        with Peer(stack.watch_port, "devices/+/receipts/+") as device:
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen)).result(30)
            await_true(lambda: "retrying" in sink.output(), 20, "the failure is logged")
            assert not device.messages
            assert not stack.keys()
            proxy.fault = None
            device.await_messages(1, 20)
    assert len(stack.keys()) == 1


def test_the_command_says_what_the_store_can_do(servers: Stack):
    """In one line for each ability."""
    command = [sys.executable, "-m", "cloud.s3sink", "--check"]
    with store(servers, NotImplementedStore) as proxy:
        environ = servers.environ("s3sink", AWS_ENDPOINT_URL_S3=f"http://{HOST}:{proxy.port}")
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "missing" in lines["if-none-match"]
    assert "SHA-256 is verified" in lines["checksum"]
    assert lines["metadata"].endswith("kept")


def test_the_store_verifies_the_digest_of_each_face(stack: Stack):
    """The sink gives it the SHA-256 that the detector computed."""
    stack.start_servers()
    stack.start_connected("s3sink")
    jpeg = make_jpeg()
    seen = make_face(jpeg=jpeg, sha256=face.digest_of(jpeg))
    with Peer(stack.watch_port, "devices/+/receipts/+") as device:
        device.session.publish(FACES, jpeg, qos=1, properties=face.encode(seen))
        device.await_messages(1)
    (key,) = stack.keys()
    stored = stack.s3().head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert stored["Metadata"]["sha256"] == hashlib.sha256(jpeg).hexdigest()
    assert stored.get("ChecksumSHA256")


class OddListingStore(S3Proxy):
    """It answers each listing with a well-formed one that is not as expected."""

    contents = ""

    async def _forward(self, request: _Message) -> _Message:
        if request.words[0] != "GET":
            return await super()._forward(request)
        body = (
            "<?xml version='1.0'?><ListBucketResult><Name>faces</Name><KeyCount>1</KeyCount>"
            f"<Contents>{self.contents}</Contents></ListBucketResult>"
        )
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        return _Message((head + body).encode(), ["HTTP/1.1", "200", "OK"])


@pytest.mark.parametrize(
    "contents",
    [
        "<Key>key</Key>",
        "<Size>1</Size>",
        "<Key>key</Key><Size>n/a</Size>",
        "<Key>key</Key><Size>1</Size><LastModified>soon</LastModified>",
    ],
)
def test_an_odd_listing_is_a_temporary_failure(servers: Stack, contents: str):
    """It does not end the sink. The error names the type of the exception."""
    with store(servers, OddListingStore) as proxy:
        assert isinstance(proxy, OddListingStore)
        proxy.contents = contents
        with pytest.raises(TemporaryFailure, match="Error"):
            size_of(check(servers, proxy, "odd")._client, BUCKET, "key")


def test_the_check_passes_if_another_version_has_written_another_text(servers: Stack):
    """Its object only needs to exist."""
    servers.s3().put_object(Bucket=BUCKET, Key="other-version/store-check", Body=b"another text")
    with store(servers, S3Proxy) as proxy:
        assert check(servers, proxy, "other-version").run() == LIKE_AWS
