"""The gallery's access to S3: lists cameras, days and faces; reads and deletes objects. Every call blocks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import ClientError

from cloud.bucket_settings import BucketSettings
from cloud.s3_errors import NO_USABLE_ANSWER, reason_of, status_of
from wire import keys, topics
from wire.errors import BadMessage, FacewireError
from wire.topics import Origin

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

CONNECTIONS = 16
CONNECT_SECONDS = 5
READ_SECONDS = 15
ATTEMPTS = 2
MAX_DELETED = 1000
"""Maximum number of objects that S3 deletes in one request."""
MAX_OBJECT_BYTES = 1 << 20
"""A larger object is no face, and is not read."""

_log = structlog.get_logger("gallery")


class NotFound(FacewireError):
    """S3 has no such object."""


class Unavailable(FacewireError):
    """S3 cannot be reached, or denies the request. The text is one line for the user."""


class Bucket:
    """The bucket of the faces."""

    def __init__(self, settings: BucketSettings) -> None:
        """Prepare the access. boto3 reads region, credentials and endpoint from its own ``AWS_*`` variables.

        Raises:
            Unavailable: they are not usable.
        """
        self.name, self.prefix = settings.s3_bucket, settings.s3_prefix
        self._may_list_versions = True
        self.problem: str | None = None
        """Why the last request failed; None if it succeeded."""
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": ATTEMPTS},
            max_pool_connections=CONNECTIONS,
        )
        with self._translated():
            self._client: S3Client = boto3.Session().client("s3", config=config)

    def check(self) -> None:
        """Find out whether S3 answers.

        Raises:
            Unavailable: it does not answer as expected.
        """
        with self._translated():
            self._client.list_objects_v2(Bucket=self.name, Prefix=f"{self.prefix}/device=", MaxKeys=1)
        self.problem = None

    def cameras(self) -> Iterator[Origin]:
        """Yield every camera of which there are faces."""
        for device in self._folders(f"{self.prefix}/device="):
            for camera in self._folders(f"{device}camera="):
                names = [part.partition("=")[2] for part in camera.removeprefix(f"{self.prefix}/").split("/")]
                if all(topics.is_name(name) for name in names[:2]):
                    yield Origin(names[0], names[1])

    def days(self, origin: Origin) -> list[date]:
        """Return the days in UTC of which there are faces of a camera, newest first."""
        start = f"{self.prefix}/device={origin.device}/camera={origin.camera}/date="
        found = []
        for folder in self._folders(start):
            try:
                found.append(date.fromisoformat(folder.removeprefix(start).rstrip("/")))
            except ValueError:
                continue
        return sorted(found, reverse=True)

    def faces(self, origin: Origin, day: date, after: str = "") -> Iterator[list[str]]:
        """Yield the ids of the faces of a camera and a day in UTC, in the order of time, some at a time.

        Args:
            origin: the camera.
            day: the day.
            after: the beginning of the file names after which the list starts, such as ``1504``.
        """
        folder = keys.folder_of_day(self.prefix, origin, day)
        with self._translated():
            paginator = self._client.get_paginator("list_objects_v2")
            for page in paginator.paginate(Bucket=self.name, Prefix=folder, StartAfter=folder + after):
                found = []
                for item in page.get("Contents", []):
                    try:
                        found.append(keys.parse(self.prefix, item["Key"])[1])
                    except BadMessage:
                        continue
                yield found
        self.problem = None

    def attributes(self, key: str) -> dict[str, str]:
        """Return the metadata of an object.

        Raises:
            NotFound: there is no such object.
            Unavailable: S3 did not answer as expected.
        """
        with self._translated(key):
            metadata = dict(self._client.head_object(Bucket=self.name, Key=key)["Metadata"])
        self.problem = None
        return metadata

    def read(self, key: str) -> tuple[bytes, dict[str, str]]:
        """Return the content and the metadata of an object.

        Raises:
            NotFound: there is no such object, or it is too large to be a face.
            Unavailable: S3 did not answer as expected.
        """
        with self._translated(key):
            answer = self._client.get_object(Bucket=self.name, Key=key)
            with answer["Body"] as body:
                if answer["ContentLength"] > MAX_OBJECT_BYTES:
                    raise NotFound(f"the object has {answer['ContentLength']} bytes, too many for a face")
                content = body.read()
        self.problem = None
        return content, dict(answer["Metadata"])

    def delete(self, wanted: Sequence[str]) -> dict[str, str]:
        """Delete objects with all their versions, at most 1,000. Return a reason for each key that is not deleted.

        Raises:
            Unavailable: S3 did not answer as expected.
        """
        objects: list[ObjectIdentifierTypeDef] = []
        with self._translated():
            with ThreadPoolExecutor(CONNECTIONS // 2) as pool:
                for versions in pool.map(self._versions, wanted):
                    objects += versions
            errors = []
            for start in range(0, len(objects), MAX_DELETED):
                batch = objects[start : start + MAX_DELETED]
                answer = self._client.delete_objects(Bucket=self.name, Delete={"Objects": batch, "Quiet": True})
                errors += answer.get("Errors", [])
        self.problem = None
        return {error.get("Key", ""): f"{error.get('Code')}: {error.get('Message')}" for error in errors}

    def _versions(self, key: str) -> "list[ObjectIdentifierTypeDef]":
        """Return what to delete of an object: every version and every delete marker of a bucket that keeps them."""
        if self._may_list_versions:
            try:
                answer = self._client.list_object_versions(Bucket=self.name, Prefix=key)
                versions = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
                return [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in versions if item["Key"] == key]
            except ClientError as error:
                self._may_list_versions = False
                _log.warning("earlier versions of deleted faces are kept", reason=reason_of(error))
        return [{"Key": key}]

    def _folders(self, start: str) -> Iterator[str]:
        with self._translated():
            paginator = self._client.get_paginator("list_objects_v2")
            for page in paginator.paginate(Bucket=self.name, Prefix=start, Delimiter="/"):
                for folder in page.get("CommonPrefixes", []):
                    yield folder["Prefix"]
        self.problem = None

    def _is_listed(self, key: str) -> bool:
        try:
            listed = self._client.list_objects_v2(Bucket=self.name, Prefix=key, MaxKeys=1)
        except NO_USABLE_ANSWER:
            return True  # nothing is known
        return bool(listed.get("Contents"))

    @contextmanager
    def _translated(self, key: str | None = None) -> Iterator[None]:
        """Raise :class:`NotFound` or :class:`Unavailable` for what boto3 raises. ``key`` is that of the object read."""
        try:
            yield
        except FacewireError:
            raise
        except (*NO_USABLE_ANSWER, ValueError, KeyError) as error:
            if isinstance(error, NO_USABLE_ANSWER) and status_of(error) == 404 and "NoSuchBucket" not in str(error):
                raise NotFound("S3 has no such object") from None
            # AWS denies reading an object that does not exist, unless the whole bucket may be listed.
            if isinstance(error, NO_USABLE_ANSWER) and status_of(error) == 403 and key and not self._is_listed(key):
                raise NotFound("S3 lists no such object") from None
            self.problem = reason_of(error)
            raise Unavailable(f"S3: {self.problem}") from None
