"""The sink's settings. Credentials, region and endpoint are not among them: boto3 reads its own ``AWS_*`` variables."""

from typing import Annotated, Literal, Self, TypedDict

from pydantic import Field, StringConstraints, model_validator

from cloud.bucket_settings import BucketSettings
from cloud.s3sink.replica import MAX_NAME, name_of_host
from wire import topics
from wire.mqtt.broker_settings import CloudSettings
from wire.process.settings import Expected, MayBeEmpty

Algorithm = Literal["AES256", "aws:kms", "aws:kms:dsse"]
KmsKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9:/_-]{1,2048}$"),
    Expected("the ARN, id or alias of a KMS key"),
]

Group = Annotated[
    str,
    StringConstraints(pattern=f"^({topics.NAME_PATTERN})?$"),
    MayBeEmpty(),
    Expected("1 to 64 letters, digits, - or _, the first a letter or digit; or nothing"),
]
SinkName = Annotated[
    str,
    StringConstraints(pattern=f"^[A-Za-z0-9-]{{1,{MAX_NAME}}}$"),
    Expected(f"1 to {MAX_NAME} letters, digits or -"),
]


class Encryption(TypedDict, total=False):
    """The encryption parameters of a write, with the names that boto3 uses."""

    ServerSideEncryption: Algorithm
    SSEKMSKeyId: str


class WriteSettings(BucketSettings):
    """The settings of writes to the bucket."""

    s3_encryption: Annotated[Algorithm, Expected("AES256, aws:kms or aws:kms:dsse")] | None = None
    """Server-side encryption that each write requests. Default: the bucket's own."""
    s3_kms_key_id: KmsKey | None = None
    """KMS key for the encryption. Default: the account's own key for S3."""

    @model_validator(mode="after")
    def _kms_key_requires_kms(self) -> Self:
        if self.s3_kms_key_id is not None and self.s3_encryption in (None, "AES256"):
            raise ValueError("S3_KMS_KEY_ID is set: expected S3_ENCRYPTION to be aws:kms or aws:kms:dsse")
        return self

    def encryption(self) -> Encryption:
        """Return the encryption parameters of a write."""
        parameters = Encryption()
        if self.s3_encryption is not None:
            parameters["ServerSideEncryption"] = self.s3_encryption
        if self.s3_kms_key_id is not None:
            parameters["SSEKMSKeyId"] = self.s3_kms_key_id
        return parameters


class SinkSettings(WriteSettings, CloudSettings):
    """The sink's settings."""

    s3_concurrency: Annotated[int, Field(ge=1, le=256), Expected("writes from 1 to 256")] = 256
    """Maximum number of concurrent writes. The sink finds the number that is useful itself."""
    device_faces_per_hour: Annotated[int, Field(ge=0), Expected("messages per hour, or 0 for no limit")] = 36_000
    """Maximum number of messages of one device per hour. 0: unlimited."""
    device_bytes_per_hour: Annotated[int, Field(ge=0), Expected("bytes per hour, or 0 for no limit")] = 4 << 30
    """Maximum size of the messages of one device per hour, in bytes. 0: unlimited."""
    sink_group: Group = "s3sink"
    """Group of the sinks that share the messages. Empty: this sink is the only one, without a group."""
    sink_name: SinkName = Field(default_factory=name_of_host, validate_default=True)
    """Name of this sink in its group. Each has a name of its own. Default: the host's name."""
