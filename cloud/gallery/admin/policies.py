"""The IAM policy of the gallery, as a JSON document. Does no I/O.

Sources: the actions and the condition key ``s3:prefix`` are in AWS's «Service Authorization Reference»; deletion in a
versioned bucket needs ``DeleteObjectVersion`` as well, according to the description of ``DeleteObjects``.
"""

from cloud import iam
from cloud.bucket_settings import BucketSettings


def gallery_policy(
    settings: BucketSettings, *, partition: str = "aws", may_delete: bool = False, kms_key: str | None = None
) -> iam.Document:
    """Return the smallest IAM policy that the gallery needs. It does not include quarantine.

    Args:
        settings: the bucket and the prefix.
        partition: ``aws``, ``aws-cn`` or ``aws-us-gov``.
        may_delete: whether faces may be deleted, with all their versions.
        kms_key: ARN of the KMS key with which faces are encrypted; None for the bucket's own encryption.
    """
    bucket = f"arn:{partition}:s3:::{settings.s3_bucket}"
    faces = f"{iam.literal(settings.s3_prefix)}/device=*"
    of_faces = {"Condition": {"StringLike": {"s3:prefix": faces}}}
    statements = [
        iam.allow("ReadFaces", "s3:GetObject", f"{bucket}/{faces}"),
        iam.allow("ListFaces", "s3:ListBucket", bucket) | of_faces,
    ]
    if may_delete:
        statements += [
            iam.allow("DeleteFaces", ["s3:DeleteObject", "s3:DeleteObjectVersion"], f"{bucket}/{faces}"),
            iam.allow("ListVersions", "s3:ListBucketVersions", bucket) | of_faces,
        ]
    if kms_key is not None:
        statements.append(iam.allow("DecryptFaces", "kms:Decrypt", kms_key))
    return iam.policy(*statements)
