"""Settings that every process with access to the bucket has: the bucket, and the prefix of the keys."""

from typing import Annotated

from pydantic import StringConstraints

from wire.process.settings import Expected, Settings

BucketName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
    Expected("the name of an S3 bucket: 3 to 63 lower-case letters, digits, dots and dashes"),
]
Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$", max_length=256),
    Expected("a prefix of S3 keys, such as faces or site-1/faces, without a slash at either end"),
]


class BucketSettings(Settings):
    """The bucket and the prefix of the keys."""

    s3_bucket: BucketName
    """Name of the bucket."""
    s3_prefix: Prefix = "faces"
    """Prefix of every key."""
