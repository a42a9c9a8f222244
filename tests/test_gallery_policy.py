"""The gallery's IAM policy, on a server that enforces it."""

import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloud.bucket_settings import BucketSettings
from cloud.gallery.admin.policies import gallery_policy
from demo.stack import BUCKET, Stack

FACE = "faces/device=jetson-1/camera=door/date=2026-11-22/150405.123Z-x.jpg"
QUARANTINED = "faces/quarantine/device=jetson-1/x"
OUTSIDE = "private/plan"


def _client_with(stack: Stack, policy: dict[str, Any]) -> Any:
    """Create a user with a policy on the S3 server, and return its client."""
    address = stack.aws()["AWS_ENDPOINT_URL_S3"]
    owner = {"aws_access_key_id": "facewire", "aws_secret_access_key": stack.secret_key}
    iam: Any = boto3.client("iam", endpoint_url=address, region_name="us-east-1", **owner)  # type: ignore[call-overload]
    iam.create_user(UserName="gallery")
    key = iam.create_access_key(UserName="gallery")["AccessKey"]
    iam.put_user_policy(UserName="gallery", PolicyName="gallery", PolicyDocument=json.dumps(policy))
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def _is_denied(call: Any, **arguments: str) -> bool:
    try:
        call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        return error.response["Error"]["Code"] in ("AccessDenied", "403")
    return False


@pytest.mark.parametrize("may_delete", [False, True])
def test_with_the_policy_the_gallery_reads_faces_and_does_nothing_else(stack: Stack, may_delete: bool):
    """It deletes faces only if that is asked for, and never sees quarantine."""
    stack.start_s3("-s3.iam.readOnly=false")
    stack.make_bucket()
    for key in (FACE, QUARANTINED, OUTSIDE):
        stack.s3().put_object(Bucket=BUCKET, Key=key, Body=b"x")
    s3 = _client_with(stack, gallery_policy(BucketSettings(s3_bucket=BUCKET), may_delete=may_delete))
    assert s3.get_object(Bucket=BUCKET, Key=FACE)["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="faces/device=", Delimiter="/")["KeyCount"] == 1
    for key in (QUARANTINED, OUTSIDE):
        assert _is_denied(s3.get_object, Key=key)
        assert _is_denied(s3.put_object, Key=key)
        assert _is_denied(s3.delete_object, Key=key)
    for prefix in ("", "faces/quarantine/", "private/"):
        assert _is_denied(s3.list_objects_v2, Prefix=prefix), prefix
    assert _is_denied(s3.put_object, Key=FACE)
    assert _is_denied(s3.delete_object, Key=FACE) is not may_delete
