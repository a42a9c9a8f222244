"""A house with cameras: a real stack with the sink and the gallery, and faces to look at."""

import http.client
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx

from demo.ports import HOST
from demo.program import Program, await_true
from demo.stack import BUCKET, Stack
from tests.builders import Peer, make_face
from tests.gallery.portraits import portrait
from wire import face, keys, status, stored, topics
from wire.face import Face
from wire.topics import Origin

PREFIX = "faces"
ZONE = "Europe/Berlin"
PARTS = 8
"""Number of threads that write to S3."""


class House:
    """The servers, the sink, the gallery, and a client that publishes faces and status messages."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Set up; ``settings`` are the gallery's."""
        self.stack = Stack(folder, watched=True)
        self.settings = {"GALLERY_TIME_ZONE": ZONE, "GALLERY_FILL_PER_SECOND": "10000", **settings}
        self.cookies: dict[str, str] = {}
        self._client = httpx.Client(timeout=20)

    def __enter__(self) -> Self:
        self.stack.start_servers()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stack.end()

    @property
    def url(self) -> str:
        """Address of the gallery."""
        return self.stack.gallery_address

    def start_sink(self) -> None:
        """Start the sink."""
        self.stack.start_connected("s3sink", 20, **self.stack.without_tls())

    def start_gallery(self) -> Program:
        """Start the gallery, sign in, and wait until its index is filled."""
        program = self.stack.start_connected("gallery", 20, **self.settings, **self.stack.without_tls())
        await_true(self._answers, 20, "the gallery answers")
        if not self.cookies:
            self.cookies = self._sign_in()
        await_true(lambda: self.get("/api/state")["filling"] is None, 60, "the index is filled")
        return program

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        answer = self._client.get(f"{self.url}{path}", cookies=self.cookies)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, body: Any) -> None:
        """Send a changing request, as a page does."""
        headers = {"X-Gallery": "1", "Origin": self.url}
        answer = self._client.post(f"{self.url}{path}", json=body, headers=headers, cookies=self.cookies)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"

    def publish(self, *faces: Face) -> None:
        """Send faces to the sink through the cloud's broker, and wait until the gallery knows them."""
        with Peer(self.stack.watch_port) as peer:
            for one in faces:
                topic = topics.to_cloud(one.origin.device, topics.faces(one.origin.camera))
                peer.session.publish(topic, one.jpeg, qos=1, properties=face.encode(one)).result(20)
        last = faces[-1]
        await_true(lambda: self.knows(last.origin, last.id), 30, "the gallery knows the face")

    def knows(self, origin: Origin, face_id: str) -> bool:
        """Return whether the gallery has a face."""
        return bool(self.get(f"/api/visit/{origin.device}/{origin.camera}/{face_id}")["faces"])

    def put(self, one: Face, body: bytes = b"", **attributes: str | None) -> None:
        """Write a face to S3 without an announcement. ``attributes`` replace those of the face, or remove them."""
        metadata = _attributes(one, attributes)
        self.stack.s3().put_object(Bucket=BUCKET, Key=_key(one), Body=body or one.jpeg, Metadata=metadata)

    def announce(self, *faces: Face, **attributes: str | None) -> None:
        """Announce that faces are in S3, as the sink does, and wait until the gallery knows them."""
        with Peer(self.stack.watch_port) as peer:
            for one in faces:
                payload, properties = stored.encode(_key(one), _attributes(one, attributes))
                peer.session.publish(topics.stored(one.origin), payload, qos=1, properties=properties).result(20)
        last = faces[-1]
        await_true(lambda: self.knows(last.origin, last.id), 30, "the gallery knows the face")

    def put_many(self, faces: Sequence[Face]) -> None:
        """Write many faces through SeaweedFS's own interface, which is faster than S3's, and announce them."""

        def write(part: Sequence[Face]) -> None:
            connection = http.client.HTTPConnection(HOST, self.stack._seaweed_ports["filer"], timeout=20)
            for one in part:
                connection.request("PUT", f"/buckets/{BUCKET}/{_key(one)}", one.jpeg, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 201, answer.status
            connection.close()

        with ThreadPoolExecutor(PARTS) as pool:
            list(pool.map(write, [faces[start::PARTS] for start in range(PARTS)]))
        self.announce(*faces)

    def report(self, device: str, process: str, name: str, **stats: Any) -> None:
        """Send a status of a process of a device."""
        with Peer(self.stack.watch_port) as peer:
            payload = status.OFFLINE if stats.get("online") is False else status.encode(**stats)
            topic = topics.to_cloud(device, topics.status(process, name))
            peer.session.publish(topic, payload, qos=1, properties=status.PROPERTIES).result(20)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).status_code == 204
        except httpx.TransportError:
            return False

    def _sign_in(self) -> dict[str, str]:
        answer = httpx.post(
            f"{self.url}/api/sign-in",
            json={"password": self.stack.gallery_password()},
            headers={"X-Gallery": "1", "Origin": self.url},
            timeout=30,
        )
        assert answer.status_code == 204, answer.text
        return dict(answer.cookies)


def _key(one: Face) -> str:
    return keys.of_face(PREFIX, one.origin, one.captured_at, one.id)


def _attributes(one: Face, changes: Mapping[str, str | None]) -> dict[str, str]:
    given = {**dict(face.encode(one).user_properties), **changes}
    return {name: value for name, value in given.items() if value is not None}


def days_ago(days: int, hour: int = 12, minute: int = 0) -> datetime:
    """A time of an earlier day, in UTC."""
    return (datetime.now(UTC) - timedelta(days=days)).replace(hour=hour, minute=minute, second=0, microsecond=0)


def make_portrait(
    number: int, captured_at: datetime, device: str, camera: str = "door", *, best: bool = False, **changes: Any
) -> Face:
    """A face with a picture, a place and a confidence that depend on its number."""
    x, y = 40 + number * 37 % 900, 60 + number * 23 % 400
    offsets = ((35.0, 50.0), (80.0, 50.0), (58.0, 75.0), (40.0, 105.0), (78.0, 105.0))
    values: dict[str, Any] = {
        "track": number,
        "jpeg": portrait(number),
        "confidence": 0.97 if best else 0.6 + number * 7 % 30 / 100,
        "box": (x, y, 118, 141),
        "landmarks": tuple((x + right, y + down) for right, down in offsets),
        "sha256": face.digest_of(portrait(number)),
    }
    return make_face(captured_at=captured_at, origin=Origin(device, camera), **(values | changes))


def make_visit(number: int, newest: datetime, count: int, device: str, camera: str = "door") -> list[Face]:
    """Faces of one track, two seconds apart, newest first. The second one is the best."""
    made = [
        make_portrait(number + 4 * i, newest - timedelta(seconds=2 * i), device, camera, track=number, best=i == 1)
        for i in range(count)
    ]
    return [replace(one, confidence=one.confidence if i == 1 else 0.9 - i / 100) for i, one in enumerate(made)]
