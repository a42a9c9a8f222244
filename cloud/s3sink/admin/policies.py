"""The IAM policy of the sink and the lifecycle configuration of the bucket, as JSON documents. Does no I/O.

Sources: the actions that PutObject and ListObjectsV2 require, and the condition key ``s3:prefix``, are in AWS's
«Service Authorization Reference»; the format of the lifecycle is that of ``put-bucket-lifecycle-configuration``.
"""

from typing import Any

from cloud.s3sink.settings import BucketSettings

MAX_DAYS = 36_500

Document = dict[str, Any]
"""A JSON document."""


def sink_policy(settings: BucketSettings, partition: str = "aws") -> Document:
    """Return the smallest IAM policy that the sink needs. ``partition`` is ``aws``, ``aws-cn`` or ``aws-us-gov``."""
    bucket = f"arn:{partition}:s3:::{settings.s3_bucket}"
    below = settings.s3_prefix.replace("*", "${*}") + "/*"  # in the prefix, an asterisk is no wildcard
    statements = [
        _allow("WriteFaces", "s3:PutObject", f"{bucket}/{below}"),
        # The sink lists a key to find out whether it exists, and the prefix to find out whether the bucket exists.
        _allow("CheckBucket", "s3:ListBucket", bucket) | {"Condition": {"StringLike": {"s3:prefix": below}}},
    ]
    if settings.s3_kms_key_id is not None and settings.s3_kms_key_id.startswith("arn:"):
        statements.append(_allow("EncryptFaces", "kms:GenerateDataKey", settings.s3_kms_key_id))
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(sid: str, action: str, resource: str) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


def lifecycle(settings: BucketSettings, days: int) -> Document:
    """Return a lifecycle configuration that deletes each object below the prefix ``days`` after it was written.

    That includes objects in quarantine. In a versioned bucket, earlier versions are deleted a day later.
    """
    return {
        "Rules": [
            {
                "ID": f"facewire-{days}-days",
                "Status": "Enabled",
                "Filter": {"Prefix": f"{settings.s3_prefix}/"},
                "Expiration": {"Days": days},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
            }
        ]
    }
