"""Takes messages out of quarantine that are valid faces or pictures.

Each is stored under its own key, with the same condition as in the sink. Only then is it deleted from quarantine, so it
is in the bucket at any time. If it is stored already, it is only deleted.
"""

import asyncio
import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from cloud.s3sink.admin import deletion
from cloud.s3sink.answers import DifferentObject, PermanentFailure
from cloud.s3sink.bucket import Bucket
from cloud.s3sink.objects import PACKED_PROPERTIES, PROPERTIES_BYTES, Kind, S3Object, make_object
from cloud.s3sink.settings import WriteSettings
from wire.errors import BadMessage
from wire.mqtt.properties import Properties, unpack
from wire.timestamps import parse_time


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message as it is kept in quarantine."""

    topic: str
    payload: bytes
    properties: Properties


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one object in quarantine."""

    key: str
    is_released: bool
    detail: str
    """The new key, or why it stays in quarantine."""

    def __str__(self) -> str:
        return f"{'released' if self.is_released else 'kept    '}  {self.key}  {self.detail}"


def release(bucket: Bucket, settings: WriteSettings, device: str | None) -> Iterator[Result]:
    """Release every valid message, and yield a result for each object in quarantine.

    Args:
        bucket: a bucket whose store has been checked.
        settings: of the bucket.
        device: only messages of this device; None for all.

    Raises:
        TemporaryFailure: S3 does not answer.
        ClientError: S3 refuses to list, to read or to delete.
    """
    folder = f"{settings.s3_prefix}/quarantine/" + (f"device={device}/" if device else "")
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=folder)
    for page in pages:
        for item in page.get("Contents", []):
            yield _release_one(bucket, settings, item["Key"])


def _release_one(bucket: Bucket, settings: WriteSettings, key: str) -> Result:
    try:
        s3_object = _valid_object(bucket, settings, key)
        asyncio.run(bucket.write(s3_object))
    except (BadMessage, DifferentObject, PermanentFailure) as problem:
        return Result(key, is_released=False, detail=str(problem))
    deletion.delete(bucket.client, bucket.name, deletion.versions_of(bucket.client, bucket.name, key))
    return Result(key, is_released=True, detail=s3_object.key)


def _valid_object(bucket: Bucket, settings: WriteSettings, key: str) -> S3Object:
    """Return the object that the message becomes.

    Raises:
        BadMessage: the message is not valid, or is not completely in quarantine.
    """
    stored = bucket.client.get_object(Bucket=bucket.name, Key=key)
    metadata = stored["Metadata"]
    if not metadata.keys() & {PACKED_PROPERTIES, PROPERTIES_BYTES}:
        raise BadMessage("its MQTT properties are not in quarantine, so it cannot be judged")
    packed, payload = _split(metadata, stored["Body"].read())
    message = Quarantined(metadata["topic"], payload, unpack(packed, 0)[0])
    s3_object = make_object(message, settings.s3_prefix, parse_time(metadata["arrived"]), bucket.clock.now())
    if s3_object.kind not in (Kind.FACE, Kind.PICTURE):
        raise BadMessage(s3_object.quarantine_reason or "it is not valid")
    return s3_object


def _split(metadata: dict[str, str], body: bytes) -> tuple[bytes, bytes]:
    """Return the packed properties and the payload of an object in quarantine."""
    if PACKED_PROPERTIES in metadata:
        try:
            return base64.b64decode(metadata[PACKED_PROPERTIES], validate=True), body
        except binascii.Error:
            raise BadMessage("its MQTT properties are not base64") from None
    length = metadata[PROPERTIES_BYTES]
    if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= len(body)):
        raise BadMessage(f"{PROPERTIES_BYTES} is {length[:20]!r}: expected at most the {len(body)} bytes of its body")
    return body[: int(length)], body[int(length) :]
