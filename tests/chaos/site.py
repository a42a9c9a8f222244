"""The site: the whole pipeline, with a bad link on each side of the cloud's broker, and somebody who mends things."""

import os
import time
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from demo.film import clip
from demo.ports import HOST
from demo.program import Program
from demo.stack import BUCKET, CHAIN, Stack
from tests.chaos import ledger
from tests.chaos.faults import ANSWERS, KILLS, LINKS, Fault
from tests.chaos.proxy import Mode, TcpProxy
from tests.chaos.s3proxy import S3Proxy
from wire import face

_FILM = "WolfgangLanger_Pexels.mp4"
"""One person, whose face is in each frame."""
_FRAMES = 40
_EMPTY_FRAMES_EACH = 4
"""Frames without a face after each with one: so some 20 faces come each second, as fast as the detector can look."""
_DETECTOR_NICENESS = 10
"""It would take a whole core: everybody else comes first."""
_RESTART_SECONDS = 1.0
"""After which a process that ended by itself is started again, as compose does it."""


class Site:
    """Everything that runs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.stack = Stack(folder)
        self.wan = TcpProxy(self.stack.cloud_port)
        self.s3 = S3Proxy(self.stack.s3_port, seed, self._note)
        self.outbox = folder / "outbox.db"
        self.ended: Counter[tuple[str, int]] = Counter()
        """Which process ended by itself with which status, and how often."""
        self.newest_stored: datetime | None = None
        """When the newest face in S3 was captured: pictures of a folder are captured when they are read."""
        self._due: dict[str, float] = {}
        self._pictures, self._empty = folder / "pictures", folder / "empty"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.end()
        self.wan.close()
        self.s3.close()

    def start(self) -> None:
        """Start everything."""
        self.wan.start()
        self.s3.start()
        make_pictures(self._pictures, self._empty)
        ledger.install(self.outbox)
        self.stack.start_servers()
        for name in ("s3sink", "forwarder", "detector"):
            self.launch(name)

    def launch(self, name: str) -> Program:
        """Start a server or a process, for the first time or again."""
        if name == "s3":
            return self.stack.start_s3()
        if name in ("local-broker", "cloud-broker"):
            return self.stack.start_broker(name)
        if name == "detector":
            return self._launch_detector(self._pictures, loop=True)
        if name == "forwarder":
            return self.stack.start(name, CLOUD_MQTT_PORT=str(self.wan.port))
        return self.stack.start(name, AWS_ENDPOINT_URL_S3=f"http://{HOST}:{self.s3.port}")

    def inject(self, fault: Fault) -> None:
        """Let it happen."""
        if fault.kind in KILLS:
            programs = [self.stack.programs[name] for name in KILLS[fault.kind]]
            for program in programs:  # all at the same instant; only then look whether they have gone
                assert program.process is not None
                program.process.kill()
            for program in programs:
                program.kill()
        elif fault.kind in LINKS:
            self.wan.latency_seconds = fault.latency_seconds
            self.wan.mode = fault.mode
        elif fault.kind in ANSWERS:
            self.s3.problem = fault.problem

    def heal(self, fault: Fault) -> None:
        """Mend what the fault has broken."""
        for name in fault.order:
            self.launch(name)
        if fault.kind in LINKS:
            self.wan.mode = Mode.PASS
        elif fault.kind in ANSWERS:
            self.s3.problem = None

    def supervise(self, except_for: Collection[str]) -> None:
        """Start again what has ended by itself, ``except_for`` that which a fault has killed."""
        for name, program in list(self.stack.programs.items()):
            if name in except_for or program.running:
                self._due.pop(name, None)
            elif name not in self._due:
                self.ended[name, program.wait(0)] += 1
                self._due[name] = time.monotonic() + _RESTART_SECONDS
            elif time.monotonic() >= self._due[name]:
                del self._due[name]
                self.launch(name)

    def stop_camera(self) -> int:
        """Stop looking at pictures; return the detector's exit status."""
        return self.stack.programs["detector"].stop(30)

    def drain(self) -> Program:
        """Start a detector that sees nobody, and ends once the outbox is empty."""
        return self._launch_detector(self._empty, loop=False)

    def stop_pipeline(self) -> dict[str, int]:
        """Stop forwarder and sink, which finish what is under way; return their exit statuses."""
        return {name: self.stack.programs[name].stop() for name in CHAIN if name != "detector"}

    def _launch_detector(self, pictures: Path, *, loop: bool) -> Program:
        program = self.stack.start(
            "detector",
            CAMERA_SOURCE=str(pictures),
            CAMERA_LOOP=str(loop).lower(),
            FACE_INTERVAL="0",
            OPENCV_FOR_THREADS_NUM="1",
        )
        os.setpriority(os.PRIO_PROCESS, program.pid, _DETECTOR_NICENESS)
        return program

    def _note(self, path: str) -> None:
        face_id = ledger.id_of(path.removeprefix(f"/{BUCKET}/"))
        if face_id is not None:
            captured_at = face.time_of_id(face_id)
            self.newest_stored = max(captured_at, self.newest_stored or captured_at)


def make_pictures(folder: Path, empty: Path) -> None:
    """Fill a folder with frames of a film, and one with a picture of nobody.

    A folder of pictures, not the film itself: its pictures are captured when they are read, so the id of a face in S3
    tells how old it is.
    """
    for made in (folder, empty):
        made.mkdir(parents=True)
    capture = cv2.VideoCapture(str(clip(_FILM)))
    step = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // _FRAMES
    number = 0
    for _ in range(_FRAMES):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number // (1 + _EMPTY_FRAMES_EACH) * step)
        read, image = capture.read()
        if not read:
            raise ValueError(f"{_FILM}: expected {_FRAMES * step} frames or more")
        for picture in (image, *[np.full_like(image, 127)] * _EMPTY_FRAMES_EACH):
            cv2.imwrite(str(folder / f"{number:04d}.jpg"), picture)
            number += 1
    capture.release()
    cv2.imwrite(str(empty / "nobody.jpg"), np.full((360, 640, 3), 127, np.uint8))
