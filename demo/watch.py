"""Observes the pipeline from outside: messages at the local broker, and objects in S3."""

import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cloud.s3sink.store_check import is_store_check
from demo.stack import BUCKET, CAMERA, Stack
from wire import status, topics
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.session import Session
from wire.process.lifecycle import Stop

_FACE_KEY = re.compile(r"[^/]+/device=[^/]+/camera=[^/]+/date=[^/]+/[^/]+Z-([0-9a-f-]{36})\.jpg")


class BrokerMonitor:
    """Subscribes to faces and status at the local broker, as any other client could."""

    def __init__(self, stack: Stack, stop: Stop) -> None:
        """Set up a monitor of the stack's local broker; ``stop`` is informed of a defect."""
        self.published: Counter[str] = Counter()
        """Number of times that each face was published, by id."""
        self.stats: dict[str, Any] = {}
        """The detector's latest status."""
        self.listening = threading.Event()
        self.detector_gone = threading.Event()
        """Set when the detector's last will arrives: there will be no more faces."""
        self._session = Session(
            stack.local_endpoint(),
            ConnectOptions("facewire-demo"),
            stop,
            on_message=self._take,
            subscriptions=[(topics.ALL_FACES, 1), (topics.status("detector", CAMERA), 1)],
            on_connected=self.listening.set,
        )

    def start(self) -> None:
        """Connect; ``listening`` is set when the subscription is granted."""
        self._session.start()

    def close(self) -> None:
        """Disconnect from the broker."""
        self._session.close()

    def _take(self, message: Message) -> None:
        if message.topic.startswith("faces/"):
            self.published[(message.properties.correlation_data or b"").decode("ascii", "replace")] += 1
        else:
            stats = status.decode(message.payload)
            if stats["online"]:
                self.stats = stats
            else:
                self.detector_gone.set()
        self._session.acknowledge(message)


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    key: str
    size: int
    """Bytes."""

    @property
    def face_id(self) -> str:
        """The id in the key of a face; for any other object its whole key."""
        found = _FACE_KEY.fullmatch(self.key)
        return found[1] if found else self.key

    @property
    def is_face(self) -> bool:
        """Whether the object is a face, as opposed to one in quarantine."""
        return self.face_id != self.key


class BucketListing:
    """The objects in the bucket."""

    def __init__(self, stack: Stack) -> None:
        self.objects: list[Listed] = []
        """The objects of the latest listing, by key. For one camera this is the order of capture."""
        self._client = stack.s3()
        self._listed_at = 0.0

    def list(self, max_age_seconds: float = 0.0) -> list[Listed]:
        """Return the objects in the bucket, without that of the store check.

        A listing that is not older than ``max_age_seconds`` is used again.
        """
        if time.monotonic() - self._listed_at >= max_age_seconds:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            listed = (Listed(item["Key"], item["Size"]) for page in pages for item in page.get("Contents", []))
            self.objects = [item for item in listed if not is_store_check(item.key)]
            self._listed_at = time.monotonic()
        return self.objects

    def read(self, key: str) -> tuple[dict[str, str], bytes]:
        """Return the metadata and the content of an object."""
        answer = self._client.get_object(Bucket=BUCKET, Key=key)
        return answer["Metadata"], answer["Body"].read()


def faults(published: Counter[str], objects: list[Listed]) -> list[str]:
    """Compare the published faces with the stored ones.

    Returns:
        One line for each kind of fault; empty if every face is stored exactly once.
    """
    stored = Counter(item.face_id for item in objects)
    kinds = {
        "published and not stored": sorted(published.keys() - stored.keys()),
        "stored more than once": sorted(face_id for face_id, times in stored.items() if times > 1),
        "stored and never published": sorted(stored.keys() - published.keys()),
    }
    found = [
        f"{len(ids)} {kind}: {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
        for kind, ids in kinds.items()
        if ids
    ]
    if not published:
        found.append("no face was published")
    return found
