"""Administration of the bucket: policy, lifecycle and deletion, with a real S3 server."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cloud.iam import Document
from cloud.s3sink.admin import deletion, policies
from cloud.s3sink.admin.deletion import Criteria
from cloud.s3sink.objects import PROPERTIES_BYTES, make_object, make_quarantined
from cloud.s3sink.settings import SinkSettings, WriteSettings
from cloud.s3sink.store_check import is_store_check
from demo.program import ROOT, await_true
from demo.stack import BUCKET, Stack
from tests.builders import CAPTURED_AT, Peer, make_face, make_jpeg
from wire import face, keys
from wire.errors import ConfigurationError
from wire.face import Face
from wire.ids import id_from_hash, new_id
from wire.mqtt.connection import Message
from wire.mqtt.properties import NO_PROPERTIES, Properties, unpack
from wire.topics import Origin

SETTINGS = WriteSettings(s3_bucket="my-faces", s3_prefix="site-1/faces")


def admin(stack: Stack, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does."""
    command = [sys.executable, "-m", "cloud.s3sink.admin", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=stack.environ(**environ), capture_output=True, text=True, timeout=60, check=False
    )


def put(stack: Stack, bucket: str, device: str, camera: str, captured_at: datetime) -> str:
    """Store a face and return its key."""
    key = keys.of_face("faces", Origin(device, camera), captured_at, new_id(captured_at))
    stack.s3().put_object(Bucket=bucket, Key=key, Body=b"x")
    return key


def stored_keys(stack: Stack, bucket: str) -> set[str]:
    """Return all keys in the bucket."""
    return {item["Key"] for item in stack.s3().list_objects_v2(Bucket=bucket).get("Contents", [])}


@pytest.fixture
def bucket(servers: Stack, request: pytest.FixtureRequest) -> str:
    """A bucket for one test: three devices, two cameras, two days, and objects in quarantine."""
    name = f"admin-{abs(hash(request.node.name)) % 10**9}"
    servers.make_bucket(name)
    for device in ("jetson-1", "jetson-10", "jetson-2"):
        for camera in ("door", "yard"):
            for days in (0, 1):
                put(servers, name, device, camera, CAPTURED_AT + timedelta(days=days))
        key = f"faces/quarantine/device={device}/date={CAPTURED_AT:%Y-%m-%d}/{'0' * 64}"
        servers.s3().put_object(Bucket=name, Key=key, Body=b"?")
    return name


def test_the_policy_allows_two_actions_on_one_bucket():
    """Writing below the prefix, and listing below the prefix. Nothing can be read or deleted."""
    statements = policies.sink_policy(SETTINGS)["Statement"]
    assert {(statement["Action"], statement["Resource"]) for statement in statements} == {
        ("s3:PutObject", "arn:aws:s3:::my-faces/site-1/faces/*"),
        ("s3:ListBucket", "arn:aws:s3:::my-faces"),
    }
    assert all(statement["Effect"] == "Allow" for statement in statements)
    (listing,) = [statement for statement in statements if statement["Action"] == "s3:ListBucket"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "site-1/faces/*"}}


def test_an_asterisk_in_the_prefix_is_no_wildcard_in_the_policy():
    """IAM takes ``${*}`` literally."""
    write, listing, *_ = policies.sink_policy(WriteSettings(s3_bucket="my-faces", s3_prefix="a*b"))["Statement"]
    assert write["Resource"] == "arn:aws:s3:::my-faces/a${*}b/*"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "a${*}b/*"}}


@pytest.fixture
def sink_with(stack: Stack) -> Callable[[Document], dict[str, str]]:
    """A function that creates a user with a policy on the S3 server, and returns the credentials as AWS variables."""
    stack.start_s3("-s3.iam.readOnly=false")
    stack.make_bucket()
    address = stack.aws()["AWS_ENDPOINT_URL_S3"]
    owner = {"aws_access_key_id": "facewire", "aws_secret_access_key": stack.secret_key}
    iam: Any = boto3.client("iam", endpoint_url=address, region_name="us-east-1", **owner)  # type: ignore[call-overload]

    def make(policy: Document) -> dict[str, str]:
        iam.create_user(UserName="sink")
        key = iam.create_access_key(UserName="sink")["AccessKey"]
        iam.put_user_policy(UserName="sink", PolicyName="sink", PolicyDocument=json.dumps(policy))
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    return make


def test_with_the_policy_the_sink_can_write_faces_and_do_nothing_else(stack: Stack, sink_with):
    """On a server that enforces the policy, it can neither read nor delete, nor write or list outside the prefix."""
    keys_of_sink = sink_with(policies.sink_policy(WriteSettings(s3_bucket=BUCKET)))
    stack.start_broker("cloud-broker")
    stack.start_connected("s3sink", **keys_of_sink)
    seen = make_face(jpeg=make_jpeg())
    with Peer(stack.watch_port, "devices/+/receipts/+") as device:
        for _ in range(2):  # the second time, the sink lists the key
            device.session.publish("devices/jetson-1/faces/door", seen.jpeg, qos=1, properties=face.encode(seen))
        device.await_messages(2)
    (key,) = stack.keys()
    key_id, secret = keys_of_sink.values()
    session = boto3.Session(key_id, secret, region_name="us-east-1")
    sink = session.client("s3", endpoint_url=stack.aws()["AWS_ENDPOINT_URL_S3"])
    assert sink.list_objects_v2(Bucket=BUCKET, Prefix=key)["KeyCount"] == 1
    for forbidden in (
        lambda: sink.get_object(Bucket=BUCKET, Key=key),
        lambda: sink.delete_object(Bucket=BUCKET, Key=key),
        lambda: sink.put_object(Bucket=BUCKET, Key="other/x", Body=b""),
        lambda: sink.put_object(Bucket=BUCKET, Key="facesx", Body=b""),
        lambda: sink.create_bucket(Bucket="another"),
        lambda: sink.list_objects_v2(Bucket=BUCKET),
        lambda: sink.list_objects_v2(Bucket=BUCKET, Prefix="faces"),
        lambda: sink.list_objects_v2(Bucket=BUCKET, Prefix="other/"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            forbidden()


@pytest.mark.slow
@pytest.mark.parametrize("omitted", [0, 1])
def test_the_sink_needs_every_statement_of_the_policy(stack: Stack, sink_with, omitted: int):
    """Without one of them it exits, or retries its writes forever."""
    policy = policies.sink_policy(WriteSettings(s3_bucket=BUCKET))
    del policy["Statement"][omitted]
    keys_of_sink = sink_with(policy)
    stack.start_broker("cloud-broker")
    if policy["Statement"][0]["Action"] == "s3:PutObject":
        sink = stack.start("s3sink", **keys_of_sink)
        assert sink.wait(20) == 77
        assert "s3:ListBucket" in sink.output()
        return
    sink = stack.start_connected("s3sink", **keys_of_sink)
    with Peer(stack.watch_port) as device:
        device.session.publish("devices/jetson-1/faces/door", make_jpeg(), qos=1).result(10)
    await_true(lambda: "AccessDenied" in sink.output(), 10, "the sink logs that access is denied")
    assert not stack.keys()


def test_the_policy_allows_the_use_of_the_kms_key_only():
    """With KMS there is one more action, for that key."""
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd"
    settings = WriteSettings(s3_bucket="my-faces", s3_encryption="aws:kms", s3_kms_key_id=key)
    (statement,) = [item for item in policies.sink_policy(settings)["Statement"] if item["Resource"] == key]
    assert statement["Action"] == "kms:GenerateDataKey"


def test_a_server_accepts_the_lifecycle(servers: Stack):
    """And returns it unchanged."""
    servers.make_bucket("lifecycle")
    wanted = policies.lifecycle(WriteSettings(s3_bucket="lifecycle"), 30)
    servers.s3().put_bucket_lifecycle_configuration(Bucket="lifecycle", LifecycleConfiguration=wanted)  # type: ignore[arg-type]
    (rule,) = servers.s3().get_bucket_lifecycle_configuration(Bucket="lifecycle")["Rules"]
    assert rule["Expiration"]["Days"] == 30
    assert rule["Filter"]["Prefix"] == "faces/"
    assert rule["Status"] == "Enabled"


def test_policy_and_lifecycle_print_only_json(servers: Stack):
    """So that the output can be passed to another command."""
    for arguments in (["policy"], ["lifecycle", "--days", "30"]):
        done = admin(servers, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)


@pytest.mark.parametrize(
    ("criteria", "is_deleted"),
    [
        (Criteria(device="jetson-1"), lambda key: "device=jetson-1/" in key),
        (Criteria(device="jetson-1", camera="door"), lambda key: "device=jetson-1/camera=door/" in key),
        (Criteria(day=date(2026, 11, 22)), lambda key: "date=2026-11-22/" in key),
        (
            Criteria(device="jetson-2", day=date(2026, 11, 23)),
            lambda key: "device=jetson-2/" in key and "date=2026-11-23/" in key,
        ),
        (Criteria(camera="yard"), lambda key: "camera=yard/" in key),
        (Criteria(device="nobody"), lambda key: False),
    ],
)
def test_only_matching_objects_are_deleted(servers: Stack, bucket: str, criteria: Criteria, is_deleted):
    """A device whose name starts with the name of another is not affected."""
    before, client = stored_keys(servers, bucket), servers.s3()
    expected = {key for key in before if is_deleted(key)}
    assert deletion.delete(client, bucket, deletion.find(client, bucket, "faces", criteria)) == len(expected)
    assert stored_keys(servers, bucket) == before - expected


@pytest.mark.parametrize("make", [new_id, lambda moment: id_from_hash(moment, bytes(range(10)))])
def test_a_single_face_is_deleted_by_its_id(servers: Stack, bucket: str, make):
    """Without its device or camera. A plain picture has an id too."""
    face_id = make(CAPTURED_AT)
    key = keys.of_face("faces", Origin("jetson-2", "yard"), CAPTURED_AT, face_id)
    before = stored_keys(servers, bucket)
    servers.s3().put_object(Bucket=bucket, Key=key, Body=b"x")
    listed = admin(servers, "delete", "--face", face_id, S3_BUCKET=bucket)
    assert listed.stdout == f"s3://{bucket}/{key}\n"
    assert key in stored_keys(servers, bucket)
    done = admin(servers, "delete", "--face", face_id, "--yes", S3_BUCKET=bucket)
    assert (done.returncode, done.stdout) == (0, "1 deleted\n")
    assert stored_keys(servers, bucket) == before


def test_earlier_versions_and_delete_markers_are_deleted_too(servers: Stack):
    """In a versioned bucket, a plain deletion only hides an object."""
    client, name = servers.s3(), "versioned"
    servers.make_bucket(name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    key = put(servers, name, "jetson-1", "door", CAPTURED_AT)
    client.put_object(Bucket=name, Key=key, Body=b"again")
    client.delete_object(Bucket=name, Key=key)
    other = put(servers, name, "jetson-2", "door", CAPTURED_AT)
    assert admin(servers, "delete", "--device", "jetson-1", "--yes", S3_BUCKET=name).returncode == 0
    remaining = client.list_object_versions(Bucket=name)
    assert [version["Key"] for version in remaining.get("Versions", [])] == [other]
    assert not remaining.get("DeleteMarkers")


@pytest.mark.slow
def test_more_than_1000_objects_are_deleted(servers: Stack):
    """S3 deletes at most 1000 in one request."""
    servers.make_bucket("many")
    client = servers.s3()
    for number in range(1003):
        client.put_object(Bucket="many", Key=f"faces/device=d/camera=c/date=2026-11-22/{number}.jpg", Body=b"")
    assert admin(servers, "delete", "--device", "d", "--yes", S3_BUCKET="many").stdout == "1003 deleted\n"
    assert not stored_keys(servers, "many")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("delete", "--yes"), "expected --device, --camera, --date or --face"),
        (("delete", "--device", "../x"), "expected a name"),
        (("delete", "--date", "yesterday"), "expected a day such as 2026-11-22"),
        (("delete", "--face", "x" * 36), "expected the id at the end of a key"),
        (("lifecycle", "--days", "0"), "expected days, from 1 to"),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line(servers: Stack, arguments: tuple[str, ...], expected: str):
    """Nothing is deleted."""
    done = admin(servers, *arguments)
    assert done.returncode == 2
    assert expected in done.stderr.splitlines()[-1]


def test_a_missing_bucket_is_reported_in_one_line(servers: Stack):
    """Without a traceback."""
    done = admin(servers, "delete", "--device", "d", S3_BUCKET="no-such-bucket")
    assert done.returncode == 77
    assert done.stderr.startswith("S3_BUCKET is 'no-such-bucket': ")
    assert len(done.stderr.splitlines()) == 1


def test_each_write_requests_the_encryption(stack: Stack):
    """The server confirms it."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    stack.start_connected("s3sink", S3_ENCRYPTION="AES256")
    seen = make_face(jpeg=make_jpeg())
    with Peer(stack.watch_port, "devices/+/receipts/+") as device:
        device.session.publish("devices/jetson-1/faces/door", seen.jpeg, qos=1, properties=face.encode(seen))
        device.await_messages(1)
    (key,) = stack.keys()
    assert stack.s3().head_object(Bucket="faces", Key=key)["ServerSideEncryption"] == "AES256"


def test_a_kms_key_requires_kms_encryption():
    """Otherwise the key would be ignored."""
    environ = {"S3_BUCKET": "faces", "CLOUD_MQTT_HOST": "x", "S3_KMS_KEY_ID": "alias/x"}
    with pytest.raises(ConfigurationError, match="expected S3_ENCRYPTION to be aws:kms"):
        SinkSettings.from_environment(environ)
    parameters = SinkSettings.from_environment(environ | {"S3_ENCRYPTION": "aws:kms"}).encryption()
    assert parameters == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/x"}


def quarantine(stack: Stack, bucket: str, message: Message, reason: str = "set aside") -> str:
    """Put a message into quarantine and return its key."""
    made = make_quarantined(message, "faces", CAPTURED_AT, reason)
    stack.s3().put_object(Bucket=bucket, Key=made.key, Body=made.body, Metadata=made.metadata)
    return made.key


def message_of(seen: Face) -> Message:
    topic = f"devices/{seen.origin.device}/faces/{seen.origin.camera}"
    return Message(topic, seen.jpeg, 1, False, face.encode(seen), None, 0)  # type: ignore[arg-type]


def test_valid_faces_and_pictures_are_released_from_quarantine(servers: Stack):
    """With all their attributes. A face that is stored already is only deleted from quarantine."""
    name = "release"
    servers.make_bucket(name)
    first, second = (
        make_face(jpeg=jpeg, sha256=face.digest_of(jpeg), latitude=41.8781, longitude=-87.6298)
        for jpeg in (make_jpeg(), make_jpeg(seed=2))
    )
    picture = Message("devices/jetson-2/faces/yard", make_jpeg(seed=3), 1, False, NO_PROPERTIES, None, 0)  # type: ignore[arg-type]
    second_message = message_of(second)
    extended = replace(
        second_message.properties, user_properties=(*second_message.properties.user_properties, ("a", "x" * 2000))
    )  # does not fit into the metadata
    for message in (message_of(first), replace(second_message, properties=extended), picture):
        quarantine(servers, name, message)
    stored = make_object(message_of(second), "faces", CAPTURED_AT)
    servers.s3().put_object(Bucket=name, Key=stored.key, Body=stored.body)
    done = admin(servers, "release", S3_BUCKET=name)
    assert done.returncode == 0
    assert done.stderr == "3 released, 0 stay in quarantine\n"
    expected = {make_object(message, "faces", CAPTURED_AT).key for message in (message_of(first), picture)}
    assert {key for key in stored_keys(servers, name) if not is_store_check(key)} == {stored.key, *expected}
    released = servers.s3().get_object(Bucket=name, Key=make_object(message_of(first), "faces", CAPTURED_AT).key)
    assert released["Body"].read() == first.jpeg
    assert released["Metadata"] == dict(face.encode(first).user_properties)


@pytest.mark.slow
def test_messages_that_cannot_be_judged_or_are_not_valid_stay_in_quarantine(servers: Stack):
    """Damaged faces, invalid ones, too many properties, and those of version 0.1, which did not keep the properties."""
    name = "release-not"
    servers.make_bucket(name)
    damaged = make_face(jpeg=make_jpeg(), sha256=face.digest_of(b"other"))
    wrong = make_face(jpeg=make_jpeg(), confidence=2.0)
    many = replace(
        message_of(make_face(jpeg=make_jpeg())),
        properties=unpack(Properties(user_properties=(("a", "x"),) * 1000).pack(), 0)[0],
    )
    kept = [quarantine(servers, name, message) for message in (message_of(damaged), message_of(wrong), many)]
    kept.append(f"faces/quarantine/device=old/date={CAPTURED_AT:%Y-%m-%d}/{'0' * 64}")
    servers.s3().put_object(Bucket=name, Key=kept[-1], Body=make_jpeg(), Metadata={"reason": "AccessDenied"})
    kept.append(f"faces/quarantine/device=odd/date={CAPTURED_AT:%Y-%m-%d}/{'0' * 64}")
    servers.s3().put_object(Bucket=name, Key=kept[-1], Body=b"x", Metadata={PROPERTIES_BYTES: "2"})
    other = quarantine(servers, name, message_of(make_face(jpeg=make_jpeg(), origin=Origin("another", "door"))))
    for device, count in (("jetson-1", 3), ("old", 1), ("odd", 1)):
        done = admin(servers, "release", "--device", device, S3_BUCKET=name)
        assert done.stderr == f"0 released, {count} stay in quarantine\n"
    lines = admin(servers, "release", S3_BUCKET=name).stdout.splitlines()
    assert sum("cannot be judged" in line for line in lines) == 1
    assert sum("expected at most the 1 bytes" in line for line in lines) == 1
    assert sum("more than 64 user properties" in line for line in lines) == 1
    assert sum("attribute sha256" in line for line in lines) == 1
    remaining = {key for key in stored_keys(servers, name) if "/quarantine/" in key}
    assert remaining == set(kept)
    assert other not in remaining
