"""What an operator tells AWS of the bucket: who may do what, and for how long faces are kept. Pure; nothing is sent.

Sources: the actions that PutObject and HeadBucket ask for are those of the «Service Authorization Reference»; the
lifecycle's form is that of ``put-bucket-lifecycle-configuration``.
"""

from typing import Any

from cloud.s3sink.settings import BucketSettings

MAX_DAYS = 36_500

Document = dict[str, Any]
"""As JSON has it."""


def sink_policy(settings: BucketSettings, partition: str = "aws") -> Document:
    """Return the IAM policy with which the sink works, and without any statement of which it does not.

    Args:
        settings: the bucket, the prefix and the KMS key, if there is one.
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
            # HeadBucket, by which the sink sees at its start whether the bucket is there.
            "Sid": "SeeThatTheBucketIsThere",
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
    """Return the bucket's lifecycle by which everything below the prefix is deleted ``days`` after it was stored.

    Earlier versions, where the bucket keeps them, go a day later. What is in quarantine is below the prefix too.
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
