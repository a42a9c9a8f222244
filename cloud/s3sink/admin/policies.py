"""The IAM policy of the sink and the lifecycle configuration of the bucket, as JSON documents. Does no I/O.

Sources: the actions that PutObject and HeadBucket require are in AWS's «Service Authorization Reference»; the format of
the lifecycle is that of ``put-bucket-lifecycle-configuration``.
"""

from typing import Any

from cloud.s3sink.settings import BucketSettings

MAX_DAYS = 36_500

Document = dict[str, Any]
"""A JSON document."""


def sink_policy(settings: BucketSettings, partition: str = "aws") -> Document:
    """Return the smallest IAM policy that the sink needs.

    Args:
        settings: the bucket, the prefix and the KMS key.
        partition: ``aws``, ``aws-cn`` or ``aws-us-gov``.
    """
    bucket = f"arn:{partition}:s3:::{settings.s3_bucket}"
    statements: list[Document] = [
        {
            "Sid": "WriteFaces",
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": f"{bucket}/{settings.s3_prefix}/*",
        },
        {
            # For HeadBucket: the sink checks at the start that the bucket exists.
            "Sid": "CheckBucket",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket,
        },
    ]
    if settings.s3_kms_key_id is not None and settings.s3_kms_key_id.startswith("arn:"):
        statements.append(
            {
                "Sid": "EncryptFaces",
                "Effect": "Allow",
                "Action": "kms:GenerateDataKey",
                "Resource": settings.s3_kms_key_id,
            }
        )
    return {"Version": "2012-10-17", "Statement": statements}


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
