"""What the sink can be told. Credentials, region and endpoint are boto3's own: ``AWS_*``, never renamed or parsed."""

from typing import Annotated

from pydantic import Field, StringConstraints

from wire.settings import CloudSettings, Expected

Bucket = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
    Expected("an S3 bucket's name: 3 to 63 lower-case letters, digits, dots and dashes"),
]
Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$", max_length=256),
    Expected("a prefix of S3 keys, such as faces or site-1/faces, without a slash at either end"),
]


class SinkSettings(CloudSettings):
    """The sink's settings."""

    s3_bucket: Bucket
    s3_prefix: Prefix = "faces"
    s3_concurrency: Annotated[int, Field(ge=1, le=256), Expected("writes from 1 to 256")] = 16
    """Writes under way at once."""
