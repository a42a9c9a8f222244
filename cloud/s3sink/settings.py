"""What the sink can be told. Credentials, region and endpoint are boto3's own: ``AWS_*``, never renamed or parsed."""

from typing import Annotated, Literal, Self, TypedDict

from pydantic import Field, StringConstraints, model_validator

from wire.mqtt.broker_settings import CloudSettings
from wire.process.settings import Expected, Settings

BucketName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
    Expected("an S3 bucket's name: 3 to 63 lower-case letters, digits, dots and dashes"),
]
Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$", max_length=256),
    Expected("a prefix of S3 keys, such as faces or site-1/faces, without a slash at either end"),
]
Algorithm = Literal["AES256", "aws:kms", "aws:kms:dsse"]
KmsKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9:/_-]{1,2048}$"),
    Expected("the ARN, id or alias of a KMS key"),
]


class Encryption(TypedDict, total=False):
    """What a write says of its encryption, by the names that boto3 gives it."""

    ServerSideEncryption: Algorithm
    SSEKMSKeyId: str


class BucketSettings(Settings):
    """Where the faces are, and how they are kept there."""

    s3_bucket: BucketName
    s3_prefix: Prefix = "faces"
    """What every key begins with."""
    s3_encryption: Annotated[Algorithm, Expected("AES256, aws:kms or aws:kms:dsse")] | None = None
    """Server-side encryption asked for with each write. Default: the bucket's own."""
    s3_kms_key_id: KmsKey | None = None
    """The key of KMS. Default: the account's own for S3."""

    @model_validator(mode="after")
    def _key_is_for_kms(self) -> Self:
        if self.s3_kms_key_id is not None and self.s3_encryption in (None, "AES256"):
            raise ValueError("S3_KMS_KEY_ID is set: expected S3_ENCRYPTION to be aws:kms or aws:kms:dsse")
        return self

    def encryption(self) -> Encryption:
        """Return what a write says of its encryption."""
        said = Encryption()
        if self.s3_encryption is not None:
            said["ServerSideEncryption"] = self.s3_encryption
        if self.s3_kms_key_id is not None:
            said["SSEKMSKeyId"] = self.s3_kms_key_id
        return said


class SinkSettings(BucketSettings, CloudSettings):
    """The sink's settings."""

    s3_concurrency: Annotated[int, Field(ge=1, le=256), Expected("writes from 1 to 256")] = 16
    """Writes under way at once."""
