"""Deletes the faces of a device, a camera or a day, or a single face, with all their versions in the bucket."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from wire.errors import BadMessage, ConfigurationError
from wire.exit_codes import ExitCode
from wire.ids import time_of_any_id

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

_MAX_BATCH = 1000
"""Maximum number of objects that S3 deletes in one request."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which faces to delete. A criterion that is None is ignored."""

    device: str | None = None
    camera: str | None = None
    day: date | None = None
    """Day of capture in UTC; of arrival for objects in quarantine."""
    face_id: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of one object."""

    key: str
    version: str
    size: int
    """Size in bytes."""


def find(client: "S3Client", bucket: str, prefix: str, criteria: Criteria) -> Iterator[ObjectVersion]:
    """Yield every version of every object that matches ``criteria``.

    Objects in quarantine have no camera and no id, so they match only if neither is given.

    Raises:
        ConfigurationError: the id is not valid.
    """
    day = criteria.day if criteria.face_id is None else _day_of(criteria.face_id)
    levels = [("device", criteria.device), ("camera", criteria.camera), ("date", None if day is None else f"{day}")]
    folders = list(_folders(client, bucket, f"{prefix}/", levels))
    if criteria.camera is None and criteria.face_id is None:
        folders += _folders(client, bucket, f"{prefix}/quarantine/", [levels[0], levels[2]])
    suffix = "" if criteria.face_id is None else f"-{criteria.face_id}.jpg"
    for folder in folders:
        yield from (version for version in _versions(client, bucket, folder) if version.key.endswith(suffix))


def delete(client: "S3Client", bucket: str, versions: Iterator[ObjectVersion]) -> int:
    """Delete ``versions``, and return their number.

    Raises:
        ConfigurationError: S3 refused to delete a version. The others of the same request are deleted.
    """
    deleted = 0
    while batch := list(islice(versions, _MAX_BATCH)):
        identifiers: list[ObjectIdentifierTypeDef] = [{"Key": item.key, "VersionId": item.version} for item in batch]
        errors = client.delete_objects(Bucket=bucket, Delete={"Objects": identifiers, "Quiet": True}).get("Errors", [])
        deleted += len(batch) - len(errors)
        if errors:
            first = errors[0]
            raise ConfigurationError(
                f"{len(errors)} of {len(batch)} objects were not deleted, {deleted} were; the first: "
                f"{first.get('Key')}: {first.get('Code')}: {first.get('Message')}",
                ExitCode.NO_PERMISSION,
            )
    return deleted


def versions_of(client: "S3Client", bucket: str, key: str) -> Iterator[ObjectVersion]:
    """Yield every version of one object."""
    return (version for version in _versions(client, bucket, key) if version.key == key)


def _folders(client: "S3Client", bucket: str, start: str, levels: list[tuple[str, str | None]]) -> Iterator[str]:
    """Yield the prefixes below ``start`` that match ``levels``. A level without a value matches every value."""
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


def _versions(client: "S3Client", bucket: str, folder: str) -> Iterator[ObjectVersion]:
    """Yield every version and every delete marker. A remaining marker would reveal that there was a face."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=folder):
        for version in page.get("Versions", []):
            yield ObjectVersion(version["Key"], version["VersionId"], version.get("Size", 0))
        for marker in page.get("DeleteMarkers", []):
            yield ObjectVersion(marker["Key"], marker["VersionId"], 0)


def _day_of(face_id: str) -> date:
    try:
        return time_of_any_id(face_id).date()
    except BadMessage as error:
        raise ConfigurationError(f"--face is '{face_id}': expected the id at the end of a key ({error})") from None
