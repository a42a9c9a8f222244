"""The whole chain with the stand-in for AWS IoT Core between forwarder and sink."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
from cryptography import x509

from cloud.pki.certificates import name_of
from demo.program import await_true
from demo.stack import CAMERA, DEVICE, Stack
from edge.detector.delivery.outbox import Outbox
from tests.builders import make_face
from tests.iot_core import limits
from tests.iot_core.meter import Counts
from tests.iot_core.standin import SERVER_NAME, StandIn
from wire import face, keys
from wire.topics import Origin

SHARE = 0.8
"""What docs/aws-iot-core.md recommends, as a part of what AWS IoT Core accepts on a connection."""


def settings_for(share: float) -> dict[str, str]:
    """Return the settings with which a process uses a share of what AWS IoT Core accepts on a connection."""
    return {
        "CLOUD_MQTT_MAX_MESSAGES_PER_SECOND": f"{share * limits.PUBLISHES_PER_SECOND:g}",
        "CLOUD_MQTT_MAX_BYTES_PER_SECOND": f"{share * limits.BYTES_PER_SECOND:.0f}",
    }


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the faces."""

    faces: int
    stored: int
    """Objects in S3 with the right key."""
    others: int
    """Objects in S3 that no face has: stored twice, or in quarantine."""
    receipted: bool
    """Whether every face got its receipt in time, so that the outbox is empty."""
    seconds: float
    counts: dict[str, Counts]
    """What the stand-in has counted, by client id."""


class Site:
    """One device, the stand-in with Mosquitto behind it, a sink and S3."""

    def __init__(
        self, folder: Path, sizes: Sequence[int], *, receipts: str = "sink", share: float | None = SHARE
    ) -> None:
        """Set up a site.

        Args:
            folder: for data and logs.
            sizes: bytes of each face.
            receipts: who sends receipts: sink or broker. With broker there is no sink.
            share: how much of the limits of a connection the processes use; None: they do not know the limits.
        """
        self._stack = Stack(folder, watched=True)
        self._receipts, self._limits = receipts, settings_for(share) if share else {}
        self._keys = _fill(self._stack, sizes)
        cv2.imwrite(str(folder / "black.png"), np.zeros((64, 64, 3), np.uint8))
        authority = self._stack.authority
        sink = name_of(x509.load_pem_x509_certificate((authority.sink / "cert.pem").read_bytes()))
        self.core = StandIn(
            folder / "amazon",
            broker_port=self._stack.watch_port,
            client_ca=authority.broker / "ca.pem",
            policies={sink: "sink"},
            needs_alpn=True,
        )

    def run(self, seconds: float) -> Result:
        """Send all faces, for at most so many seconds."""
        stack = self._stack
        with stack, self.core:
            stack.start_servers()
            settings = {
                "CLOUD_MQTT_HOST": SERVER_NAME,
                "CLOUD_MQTT_PORT": str(self.core.port),
                "CLOUD_MQTT_CA_FILE": str(self.core.ca_file),
                "CLOUD_MQTT_ALPN": limits.ALPN,
                **self._limits,
            }
            if self._receipts == "sink":
                stack.start_connected("s3sink", 60, **settings)
            stack.start_connected("forwarder", 60, **settings, CLOUD_MQTT_CLIENT_ID=DEVICE, RECEIPTS=self._receipts)
            began = time.monotonic()
            detector = stack.start("detector", CAMERA_SOURCE=str(stack.folder / "black.png"))
            try:
                await_true(lambda: not detector.running, seconds, "every face has its receipt")
                is_empty = detector.wait(10) == 0
            except TimeoutError:
                is_empty = False
            took = time.monotonic() - began
            stored = set(stack.keys())
            for name in ("forwarder", "s3sink"):
                if name in stack.programs:
                    stack.programs[name].stop()
            await_true(lambda: self.core.is_idle, 10, "the stand-in has counted")
        expected = set(self._keys)
        return Result(
            len(expected), len(stored & expected), len(stored - expected), is_empty, took, dict(self.core.counts)
        )


def _fill(stack: Stack, sizes: Sequence[int]) -> list[str]:
    """Put faces of yesterday into the outbox, one a second, and return their keys in S3."""
    outbox = Outbox(stack.folder / "outbox.db", 1 << 30)
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    plain = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    made = []
    for number, size in enumerate(sizes):
        filling = os.urandom(max(0, size - len(plain))).replace(b"\xff", b"\x00")
        jpeg = plain[:-2] + filling + b"\xff\xd9"
        captured_at = yesterday + timedelta(seconds=number)
        one = make_face(captured_at=captured_at, origin=Origin(DEVICE, CAMERA), jpeg=jpeg, sha256=face.digest_of(jpeg))
        outbox.store([one])
        made.append(keys.of_id("faces", one.origin, one.id))
    outbox.close()
    return made
