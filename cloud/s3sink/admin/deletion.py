"""Deletes faces: a device's, a camera's, a day's, or a single one; with every version that the bucket keeps of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from wire import face
from wire.errors import BadMessage, ConfigurationError, ExitCode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

_BATCH = 1000
"""Objects that S3 deletes in one request."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which faces; what is None is not asked for."""

    device: str | None = None
    camera: str | None = None
    day: date | None = None
    """Of capture, UTC; in quarantine: of arrival."""
    face_id: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One version of one object."""

    key: str
    version: str
    size: int
    """Bytes."""


def find(client: "S3Client", bucket: str, prefix: str, choice: Choice) -> Iterator[Found]:
    """Yield every version of every object that ``choice`` means, those in quarantine too.

    What is in quarantine has no camera and no id: it is looked at where neither is asked for.

    Raises:
        ConfigurationError: the id is not that of a face.
    """
    day = choice.day if choice.face_id is None else _day_of(choice.face_id)
    levels = [("device", choice.device), ("camera", choice.camera), ("date", None if day is None else f"{day}")]
    folders = list(_folders(client, bucket, f"{prefix}/", levels))
    if choice.camera is None and choice.face_id is None:
        folders += _folders(client, bucket, f"{prefix}/quarantine/", [levels[0], levels[2]])
    ending = "" if choice.face_id is None else f"-{choice.face_id}.jpg"
    for folder in folders:
        yield from (found for found in _versions(client, bucket, folder) if found.key.endswith(ending))


def delete(client: "S3Client", bucket: str, found: Iterator[Found]) -> int:
    """Delete what was found, and return how many versions that were.

    Raises:
        ConfigurationError: S3 has refused to delete one; the others of its thousand are gone.
    """
    deleted = 0
    while some := list(islice(found, _BATCH)):
        doomed: list[ObjectIdentifierTypeDef] = [{"Key": one.key, "VersionId": one.version} for one in some]
        errors = client.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True}).get("Errors", [])
        deleted += len(some) - len(errors)
        if errors:
            first = errors[0]
            raise ConfigurationError(
                f"{len(errors)} of {len(some)} objects were not deleted, {deleted} were; the first: "
                f"{first.get('Key')}: {first.get('Code')}: {first.get('Message')}",
                ExitCode.NO_PERMISSION,
            )
    return deleted


def _folders(client: "S3Client", bucket: str, start: str, levels: list[tuple[str, str | None]]) -> Iterator[str]:
    """Yield the prefixes below ``start`` that the levels lead to; a level without a value is all that there are."""
    if not levels:
        yield start
        return
    (name, value), *rest = levels
    if value is not None:
        yield from _folders(client, bucket, f"{start}{name}={value}/", rest)
        return
    pages = client.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix=f"{start}{name}=", Delimiter="/"
    )
    for page in pages:
        for folder in page.get("CommonPrefixes", []):
            yield from _folders(client, bucket, folder["Prefix"], rest)


def _versions(client: "S3Client", bucket: str, folder: str) -> Iterator[Found]:
    """Yield every version and every marker of a deletion: a marker left behind would still tell of the face."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=folder):
        for version in page.get("Versions", []):
            yield Found(version["Key"], version["VersionId"], version.get("Size", 0))
        for marker in page.get("DeleteMarkers", []):
            yield Found(marker["Key"], marker["VersionId"], 0)


def _day_of(face_id: str) -> date:
    try:
        return face.time_of_id(face_id, version=8 if face_id[14:15] == "8" else 7).date()
    except BadMessage as error:
        raise ConfigurationError(f"--face is '{face_id}': expected the id that ends a key ({error})") from None
