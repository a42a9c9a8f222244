"""Writes objects with boto3, in threads. It serves where :mod:`cloud.s3sink.writing.http_writer` cannot be used."""

import asyncio
import base64
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from cloud.s3_errors import NO_USABLE_ANSWER, code_of, message_of, status_of
from cloud.s3sink.answers import failure_of, unexpected_as_temporary
from cloud.s3sink.objects import S3Object
from cloud.s3sink.settings import Encryption
from cloud.s3sink.writing.writer import Answer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Boto3Writer:
    """Writes objects to one bucket with boto3."""

    def __init__(self, client: "S3Client", bucket: str, encryption: Encryption, threads: Executor) -> None:
        self._client, self._bucket, self._encryption, self._threads = client, bucket, encryption, threads

    async def put(self, s3_object: S3Object, *, conditional: bool, sha256: bool) -> Answer:
        """Write an object; see :class:`cloud.s3sink.writing.writer.Writer`."""
        options: dict[str, Any] = {**self._encryption}
        if conditional:
            options["IfNoneMatch"] = "*"
        if sha256:
            options["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(s3_object.sha256)).decode("ascii")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._put, s3_object, options)

    def _put(self, s3_object: S3Object, options: dict[str, Any]) -> Answer:
        try:
            with unexpected_as_temporary():
                response = self._client.put_object(
                    Bucket=self._bucket,
                    Key=s3_object.key,
                    Body=s3_object.body,
                    ContentType=s3_object.content_type,
                    Metadata=s3_object.metadata,
                    **options,
                )
                return Answer(response["ResponseMetadata"]["HTTPStatusCode"], etag=response.get("ETag", ""))
        except NO_USABLE_ANSWER as error:
            if isinstance(error, ClientError):
                return Answer(status_of(error), code_of(error), message_of(error))
            raise failure_of(error) from None
