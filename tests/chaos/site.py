"""The site: the whole pipeline with a fault proxy on the WAN link and in front of S3, and a supervisor."""

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
"""A film of one person, with a face in every frame."""
_FRAMES = 40
_EMPTY_FRAMES_PER_FACE = 4
"""Number of frames without a face after each frame with one. It limits the rate to about 20 faces per second."""
_DETECTOR_NICENESS = 10
"""The detector would use a whole core, so it gets a lower priority than the other processes."""
_RESTART_SECONDS = 1.0
"""Delay before a process that ended unexpectedly is restarted, as by Docker Compose."""


class Site:
    """All servers, processes and proxies of a run."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.stack = Stack(folder)
        self.wan = TcpProxy(self.stack.cloud_port)
        self.s3 = S3Proxy(self.stack.s3_port, seed, self._on_written)
        self.outbox = folder / "outbox.db"
        self.ended: Counter[tuple[str, int]] = Counter()
        """Number of unexpected exits by process name and exit status."""
        self.newest_stored: datetime | None = None
        """Capture time of the newest face in S3. The capture time of a picture is the time at which it is read."""
        self._restart_at: dict[str, float] = {}
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
        """Start all proxies, servers and processes."""
        self.wan.start()
        self.s3.start()
        make_pictures(self._pictures, self._empty)
        ledger.install(self.outbox)
        self.stack.start_servers()
        for name in ("s3sink", "forwarder", "detector"):
            self.launch(name)

    def launch(self, name: str) -> Program:
        """Start or restart a server or a process."""
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
        """Inject a fault."""
        if fault.kind in KILLS:
            programs = [self.stack.programs[name] for name in KILLS[fault.kind]]
            for program in programs:  # kill all at the same time before waiting for any of them
                assert program.process is not None
                program.process.kill()
            for program in programs:
                program.kill()
        elif fault.kind in LINKS:
            self.wan.latency_seconds = fault.latency_seconds
            self.wan.mode = fault.mode
        elif fault.kind in ANSWERS:
            self.s3.fault = fault.s3_fault

    def clear(self, fault: Fault) -> None:
        """Clear a fault: restart killed programs, and restore the link or S3."""
        for name in fault.order:
            self.launch(name)
        if fault.kind in LINKS:
            self.wan.mode = Mode.PASS
        elif fault.kind in ANSWERS:
            self.s3.fault = None

    def supervise(self, except_for: Collection[str]) -> None:
        """Restart programs that ended unexpectedly, ``except_for`` those that a fault has killed."""
        for name, program in list(self.stack.programs.items()):
            if name in except_for or program.running:
                self._restart_at.pop(name, None)
            elif name not in self._restart_at:
                self.ended[name, program.wait(0)] += 1
                self._restart_at[name] = time.monotonic() + _RESTART_SECONDS
            elif time.monotonic() >= self._restart_at[name]:
                del self._restart_at[name]
                self.launch(name)

    def stop_camera(self) -> int:
        """Stop the detector and return its exit status."""
        return self.stack.programs["detector"].stop(30)

    def drain(self) -> Program:
        """Start a detector on a picture without a face. It ends once the outbox is empty."""
        return self._launch_detector(self._empty, loop=False)

    def stop_pipeline(self) -> dict[str, int]:
        """Stop forwarder and sink gracefully and return their exit statuses."""
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

    def _on_written(self, path: str) -> None:
        face_id = ledger.id_of(path.removeprefix(f"/{BUCKET}/"))
        if face_id is not None:
            captured_at = face.time_of_id(face_id)
            self.newest_stored = max(captured_at, self.newest_stored or captured_at)


def make_pictures(folder: Path, empty: Path) -> None:
    """Fill one folder with frames of a film, and another one with a picture without a face.

    The source is a folder of pictures instead of the film, because the capture time of a picture is the time at which
    it is read. The id of a face in S3 then gives its age.
    """
    for created in (folder, empty):
        created.mkdir(parents=True)
    capture = cv2.VideoCapture(str(clip(_FILM)))
    step = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // _FRAMES
    number = 0
    for _ in range(_FRAMES):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number // (1 + _EMPTY_FRAMES_PER_FACE) * step)
        read, image = capture.read()
        if not read:
            raise ValueError(f"{_FILM}: expected {_FRAMES * step} frames or more")
        for picture in (image, *[np.full_like(image, 127)] * _EMPTY_FRAMES_PER_FACE):
            cv2.imwrite(str(folder / f"{number:04d}.jpg"), picture)
            number += 1
    capture.release()
    cv2.imwrite(str(empty / "nobody.jpg"), np.full((360, 640, 3), 127, np.uint8))
