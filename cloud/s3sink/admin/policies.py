"""The IAM policy of the sink and the lifecycle configuration of the bucket, as JSON documents. Does no I/O.

Sources: the actions that PutObject and ListObjectsV2 require, and the condition key ``s3:prefix``, are in AWS's
«Service Authorization Reference»; the format of the lifecycle is that of ``put-bucket-lifecycle-configuration``.
"""

from cloud import iam
from cloud.iam import Document
from cloud.s3sink.settings import WriteSettings

MAX_DAYS = 36_500


def sink_policy(settings: WriteSettings, partition: str = "aws") -> Document:
    """Return the smallest IAM policy that the sink needs. ``partition`` is ``aws``, ``aws-cn`` or ``aws-us-gov``."""
    bucket = f"arn:{partition}:s3:::{settings.s3_bucket}"
    below = iam.literal(settings.s3_prefix) + "/*"
    statements = [
        iam.allow("WriteFaces", "s3:PutObject", f"{bucket}/{below}"),
        # The sink lists a key to find out whether it exists, and the prefix to find out whether the bucket exists.
        iam.allow("CheckBucket", "s3:ListBucket", bucket) | {"Condition": {"StringLike": {"s3:prefix": below}}},
    ]
    if settings.s3_kms_key_id is not None and settings.s3_kms_key_id.startswith("arn:"):
        statements.append(iam.allow("EncryptFaces", "kms:GenerateDataKey", settings.s3_kms_key_id))
    return iam.policy(*statements)


def lifecycle(settings: WriteSettings, days: int) -> Document:
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
