"""Upgrades: what version 0.1 has left in an outbox or in a broker is delivered, and what is new does not disturb it.

``tests/golden/outbox-v1.db`` was made by version 0.1 (commit f13fcf9): its detector stored ten faces of two cameras,
without a broker, and was stopped with SIGTERM.
"""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from demo.program import ROOT, await_true
from demo.stack import BUCKET, Stack
from edge.detector.delivery.outbox import Outbox
from tests.builders import Peer, make_face
from wire import face
from wire.mqtt import properties
from wire.mqtt.properties import Properties

GOLDEN = ROOT / "tests" / "golden" / "outbox-v1.db"
ATTRIBUTES_OF_0_1 = (
    *("specversion", "id", "type", "source", "time", "confidence", "box", "landmarks", "framesize", "track", "model"),
    *("latitude", "longitude"),
)


class Row(NamedTuple):
    """A face in the old outbox."""

    id: str
    camera: str
    properties: Properties
    jpeg: bytes


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The faces in the old outbox, read without Facewire's code."""
    with closing(sqlite3.connect(f"{GOLDEN.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        found = database.execute("SELECT id, camera, properties, jpeg FROM faces").fetchall()
    return [Row(face_id, camera, properties.unpack(packed, 0)[0], jpeg) for face_id, camera, packed, jpeg in found]


@pytest.fixture
def chain(stack: Stack) -> Stack:
    """The whole chain without the detector."""
    stack.start_servers()
    stack.start_connected("s3sink")
    stack.start_connected("forwarder")
    return stack


def assert_stored(stack: Stack, rows: list[Row]) -> None:
    """Each face is one object, with its JPEG and the attributes that version 0.1 has written."""
    keys = {key[-40:-4]: key for key in stack.keys("faces/device=")}
    assert set(keys) == {row.id for row in rows}
    assert len(stack.keys("faces/device=")) == len(rows)
    assert stack.keys("faces/quarantine/") == []
    for row in rows:
        stored = stack.s3().get_object(Bucket=BUCKET, Key=keys[row.id])
        assert hashlib.sha256(stored["Body"].read()).digest() == hashlib.sha256(row.jpeg).digest()
        assert stored["Metadata"].items() >= dict(row.properties.user_properties).items()


def test_an_outbox_of_version_0_1_is_delivered_in_place(chain: Stack, rows: list[Row]):
    """Nothing is done by hand. The detector then ends, as its camera has ended and its outbox is empty."""
    assert {row.camera for row in rows} == {"door", "yard"}
    outbox, nobody = chain.folder / "outbox.db", chain.folder / "pictures"
    shutil.copyfile(GOLDEN, outbox)
    nobody.mkdir()
    cv2.imwrite(str(nobody / "nobody.jpg"), np.full((360, 640, 3), 127, np.uint8))
    assert chain.start("detector", CAMERA_SOURCE=str(nobody)).wait(60) == 0
    assert_stored(chain, rows)
    with closing(Outbox(outbox, 1 << 30)) as emptied:
        assert emptied.count == 0


def test_an_outbox_of_version_0_1_that_was_killed_is_read_with_its_log(tmp_path: Path, rows: list[Row]):
    """The write-ahead log of the killed process contains faces that are not in the database file yet."""
    path, killed = tmp_path / "outbox.db", tmp_path / "killed.db"
    shutil.copyfile(GOLDEN, path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        with database:
            database.execute("DELETE FROM faces WHERE id = ?", (rows[0].id,))
            packed = make_old(rows[0]).properties.pack()
            database.execute(
                "INSERT INTO faces (id, camera, bytes, properties, jpeg) VALUES (?, ?, ?, ?, ?)",
                (make_old(rows[0]).id, "door", 16384, packed, rows[0].jpeg),
            )
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{killed}{suffix}")
    with closing(Outbox(killed, 1 << 30)) as outbox:
        found = [outbox.get(seq) for seq in outbox.waiting(set(), 100, newest_first=False)]
    assert [(one.id, one.camera, one.jpeg) for one in found if one] == [
        *((row.id, row.camera, row.jpeg) for row in rows[1:]),
        (make_old(rows[0]).id, "door", rows[0].jpeg),
    ]


def make_old(row: Row) -> Row:
    """A face as version 0.1 would have made it, with the JPEG of another one."""
    made = make_face(id="01a203c9-2b03-7c41-9d0e-5b1c2a7d4e90", jpeg=row.jpeg)
    return Row(made.id, row.camera, face.encode(made), row.jpeg)


def test_messages_of_version_0_1_are_stored_and_receipted(chain: Stack, rows: list[Row]):
    """They were in a broker during the upgrade, and have neither ``sha256`` nor ``clock``."""
    with Peer(chain.local_port, "receipts/+") as detector:
        for row in rows:
            assert {name for name, _ in row.properties.user_properties} == set(ATTRIBUTES_OF_0_1)
            message = replace(row.properties, message_expiry_seconds=60)
            detector.session.publish(f"faces/{row.camera}", row.jpeg, qos=1, properties=message)
        await_true(lambda: len(detector.messages) >= len(rows), 20, "all receipts have arrived")
    receipts = {(message.topic, message.properties.correlation_data) for message in detector.messages}
    assert receipts == {(f"receipts/{row.camera}", row.id.encode()) for row in rows}
    assert_stored(chain, rows)


def test_a_face_is_valid_for_version_0_1():
    """It reads the attributes that it knows, and ignores others. The sink of the cloud may be upgraded last."""
    made = make_face(sha256=face.digest_of(b"\xff\xd8\xff\xd9"), clock=face.CORRECTED)
    encoded = face.encode(made)
    old = tuple((name, value) for name, value in encoded.user_properties if name in ATTRIBUTES_OF_0_1)
    assert old == face.encode(replace(made, sha256=None, clock=None)).user_properties
    assert encoded.correlation_data == made.id.encode()
    assert encoded.content_type == "image/jpeg"
