"""What an operator does with the bucket: policy, lifecycle, deletion; against a real S3 server."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cloud.s3sink.admin import deletion, policies
from cloud.s3sink.admin.deletion import Choice
from cloud.s3sink.objects import key_of
from cloud.s3sink.settings import BucketSettings, SinkSettings
from demo.program import ROOT, await_true
from demo.stack import BUCKET, Stack
from tests.builders import CAPTURED_AT, Peer, make_face, make_jpeg
from wire import face
from wire.errors import ConfigurationError
from wire.topics import Origin

SETTINGS = BucketSettings(s3_bucket="my-faces", s3_prefix="site-1/faces")


def admin(stack: Stack, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator would."""
    command = [sys.executable, "-m", "cloud.s3sink.admin", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=stack.environ(**environ), capture_output=True, text=True, timeout=60, check=False
    )


def put(stack: Stack, bucket: str, device: str, camera: str, captured_at: datetime) -> str:
    """Store a face; return its key."""
    key = key_of("faces", Origin(device, camera), captured_at, face.mint_id(captured_at))
    stack.s3().put_object(Bucket=bucket, Key=key, Body=b"x")
    return key


def keys(stack: Stack, bucket: str) -> set[str]:
    """Return what is in the bucket."""
    return {item["Key"] for item in stack.s3().list_objects_v2(Bucket=bucket).get("Contents", [])}


@pytest.fixture
def bucket(servers: Stack, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own: three devices, two cameras, two days, and something in quarantine."""
    name = f"admin-{abs(hash(request.node.name)) % 10**9}"
    servers.make_bucket(name)
    for device in ("jetson-1", "jetson-10", "jetson-2"):
        for camera in ("door", "yard"):
            for days in (0, 1):
                put(servers, name, device, camera, CAPTURED_AT + timedelta(days=days))
        key = f"faces/quarantine/device={device}/date={CAPTURED_AT:%Y-%m-%d}/{'0' * 64}"
        servers.s3().put_object(Bucket=name, Key=key, Body=b"?")
    return name


def test_the_policy_names_two_actions_on_one_bucket():
    """A write below the prefix, and the look at the start. Nothing can be read, listed by name or deleted."""
    statements = policies.sink_policy(SETTINGS)["Statement"]
    assert {(one["Action"], one["Resource"]) for one in statements} == {
        ("s3:PutObject", "arn:aws:s3:::my-faces/site-1/faces/*"),
        ("s3:ListBucket", "arn:aws:s3:::my-faces"),
    }
    assert all(one["Effect"] == "Allow" for one in statements)


@pytest.fixture
def sink_with(stack: Stack) -> Callable[[policies.Document], dict[str, str]]:
    """Return what makes a user of the S3 server with a policy; it returns the user's keys, as boto3 wants them."""
    stack.start_s3("-s3.iam.readOnly=false")
    stack.make_bucket()
    address = stack.aws()["AWS_ENDPOINT_URL_S3"]
    owner = {"aws_access_key_id": "facewire", "aws_secret_access_key": stack.secret_key}
    iam: Any = boto3.client("iam", endpoint_url=address, region_name="us-east-1", **owner)  # type: ignore[call-overload]

    def make(policy: policies.Document) -> dict[str, str]:
        iam.create_user(UserName="sink")
        key = iam.create_access_key(UserName="sink")["AccessKey"]
        iam.put_user_policy(UserName="sink", PolicyName="sink", PolicyDocument=json.dumps(policy))
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    return make


def test_with_the_policy_the_sink_works_and_can_do_nothing_else(stack: Stack, sink_with):
    """On a server that enforces it: neither read nor delete, and not a byte outside the prefix."""
    keys_of_sink = sink_with(policies.sink_policy(BucketSettings(s3_bucket=BUCKET)))
    stack.start_broker("cloud-broker")
    stack.start_connected("s3sink", **keys_of_sink)
    seen = make_face(jpeg=make_jpeg())
    with Peer(stack.watch_port, "devices/+/receipts/+") as device:
        device.session.publish("devices/jetson-1/faces/door", seen.jpeg, qos=1, properties=face.encode(seen))
        device.await_messages(1)
    (key,) = stack.keys()
    key_id, secret = keys_of_sink.values()
    session = boto3.Session(key_id, secret, region_name="us-east-1")
    sink = session.client("s3", endpoint_url=stack.aws()["AWS_ENDPOINT_URL_S3"])
    for forbidden in (
        lambda: sink.get_object(Bucket=BUCKET, Key=key),
        lambda: sink.delete_object(Bucket=BUCKET, Key=key),
        lambda: sink.put_object(Bucket=BUCKET, Key="other/x", Body=b""),
        lambda: sink.put_object(Bucket=BUCKET, Key="facesx", Body=b""),
        lambda: sink.create_bucket(Bucket="another"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            forbidden()


@pytest.mark.parametrize("left_out", [0, 1])
def test_without_one_of_its_statements_the_sink_does_not_work(stack: Stack, sink_with, left_out: int):
    """So none is too many. What the sink is not allowed to write it tries again and again."""
    policy = policies.sink_policy(BucketSettings(s3_bucket=BUCKET))
    del policy["Statement"][left_out]
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
    await_true(lambda: "AccessDenied" in sink.output(), 10, "the sink says that it may not write")
    assert not stack.keys()


def test_the_policy_lets_the_sink_use_its_key_and_no_other():
    """For KMS one more action, on that key."""
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd"
    settings = BucketSettings(s3_bucket="my-faces", s3_encryption="aws:kms", s3_kms_key_id=key)
    (statement,) = [one for one in policies.sink_policy(settings)["Statement"] if one["Resource"] == key]
    assert statement["Action"] == "kms:GenerateDataKey"


def test_the_lifecycle_is_one_that_a_server_takes(servers: Stack):
    """And gives back as it was."""
    servers.make_bucket("lifecycle")
    wanted = policies.lifecycle(BucketSettings(s3_bucket="lifecycle"), 30)
    servers.s3().put_bucket_lifecycle_configuration(Bucket="lifecycle", LifecycleConfiguration=wanted)  # type: ignore[arg-type]
    (rule,) = servers.s3().get_bucket_lifecycle_configuration(Bucket="lifecycle")["Rules"]
    assert rule["Expiration"]["Days"] == 30
    assert rule["Filter"]["Prefix"] == "faces/"
    assert rule["Status"] == "Enabled"


def test_the_commands_print_json_and_nothing_else(servers: Stack):
    """So that it can be handed to another command."""
    for arguments in (["policy"], ["lifecycle", "--days", "30"]):
        done = admin(servers, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)


@pytest.mark.parametrize(
    ("choice", "goes"),
    [
        (Choice(device="jetson-1"), lambda key: "device=jetson-1/" in key),
        (Choice(device="jetson-1", camera="door"), lambda key: "device=jetson-1/camera=door/" in key),
        (Choice(day=date(2026, 11, 22)), lambda key: "date=2026-11-22/" in key),
        (
            Choice(device="jetson-2", day=date(2026, 11, 23)),
            lambda key: "device=jetson-2/" in key and "date=2026-11-23/" in key,
        ),
        (Choice(camera="yard"), lambda key: "camera=yard/" in key),
        (Choice(device="nobody"), lambda key: False),
    ],
)
def test_what_is_asked_for_goes_and_nothing_else(servers: Stack, bucket: str, choice: Choice, goes):
    """A device whose name begins like another's is another device."""
    before, client = keys(servers, bucket), servers.s3()
    doomed = {key for key in before if goes(key)}
    assert deletion.delete(client, bucket, deletion.find(client, bucket, "faces", choice)) == len(doomed)
    assert keys(servers, bucket) == before - doomed


@pytest.mark.parametrize("make", [face.mint_id, lambda moment: face.id_from_hash(moment, bytes(range(10)))])
def test_a_single_face_goes_by_its_id_alone(servers: Stack, bucket: str, make):
    """Whoever asks for it need not know the device; a plain picture has an id too."""
    face_id = make(CAPTURED_AT)
    key = key_of("faces", Origin("jetson-2", "yard"), CAPTURED_AT, face_id)
    before = keys(servers, bucket)
    servers.s3().put_object(Bucket=bucket, Key=key, Body=b"x")
    shown = admin(servers, "delete", "--face", face_id, S3_BUCKET=bucket)
    assert shown.stdout == f"s3://{bucket}/{key}\n"
    assert key in keys(servers, bucket)
    done = admin(servers, "delete", "--face", face_id, "--yes", S3_BUCKET=bucket)
    assert (done.returncode, done.stdout) == (0, "1 deleted\n")
    assert keys(servers, bucket) == before


def test_earlier_versions_and_markers_of_deletion_go_too(servers: Stack):
    """In a bucket that keeps versions, a deletion that leaves them deletes nothing."""
    client, name = servers.s3(), "versioned"
    servers.make_bucket(name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    key = put(servers, name, "jetson-1", "door", CAPTURED_AT)
    client.put_object(Bucket=name, Key=key, Body=b"again")
    client.delete_object(Bucket=name, Key=key)
    other = put(servers, name, "jetson-2", "door", CAPTURED_AT)
    assert admin(servers, "delete", "--device", "jetson-1", "--yes", S3_BUCKET=name).returncode == 0
    left = client.list_object_versions(Bucket=name)
    assert [one["Key"] for one in left.get("Versions", [])] == [other]
    assert not left.get("DeleteMarkers")


def test_more_than_a_thousand_go(servers: Stack):
    """S3 deletes a thousand at a time."""
    servers.make_bucket("many")
    client = servers.s3()
    for number in range(1003):
        client.put_object(Bucket="many", Key=f"faces/device=d/camera=c/date=2026-11-22/{number}.jpg", Body=b"")
    assert admin(servers, "delete", "--device", "d", "--yes", S3_BUCKET="many").stdout == "1003 deleted\n"
    assert not keys(servers, "many")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("delete", "--yes"), "expected --device, --camera, --date or --face"),
        (("delete", "--device", "../x"), "expected a name"),
        (("delete", "--date", "yesterday"), "expected a day such as 2026-11-22"),
        (("delete", "--face", "x" * 36), "expected the id that ends a key"),
        (("lifecycle", "--days", "0"), "expected days, from 1 to"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(servers: Stack, arguments: tuple[str, ...], expected: str):
    """And nothing is deleted."""
    done = admin(servers, *arguments)
    assert done.returncode == 2
    assert expected in done.stderr.splitlines()[-1]


def test_a_bucket_that_is_not_there_is_told_in_one_line(servers: Stack):
    """No traceback."""
    done = admin(servers, "delete", "--device", "d", S3_BUCKET="no-such-bucket")
    assert done.returncode == 77
    assert done.stderr.startswith("S3_BUCKET is 'no-such-bucket': ")
    assert len(done.stderr.splitlines()) == 1


def test_encryption_is_asked_for_with_each_write(stack: Stack):
    """And the server says that it did it."""
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


def test_a_key_of_kms_without_kms_is_a_mistake():
    """It would be ignored."""
    environ = {"S3_BUCKET": "faces", "CLOUD_MQTT_HOST": "x", "S3_KMS_KEY_ID": "alias/x"}
    with pytest.raises(ConfigurationError, match="expected S3_ENCRYPTION to be aws:kms"):
        SinkSettings.from_environment(environ)
    said = SinkSettings.from_environment(environ | {"S3_ENCRYPTION": "aws:kms"}).encryption()
    assert said == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/x"}
