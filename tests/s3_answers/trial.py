"""One answer of S3: for all keys, for one prefix and one key, for some time each; then the faces are counted."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from demo.ports import HOST
from demo.program import await_true
from demo.stack import BUCKET, Stack
from tests.chaos.s3proxy import Answer, S3Fault, S3Proxy
from tests.s3_answers.publisher import Device, Publisher
from wire import face

FAILING_PREFIX, FAILING_KEY = "prefix-device", "key-device"
OTHERS = ("other-1", "other-2")
"""Devices that are not concerned by a fault of one prefix or one key."""
RATE = 10.0
"""Faces per second and device."""
_LAG_SECONDS = 1.0
"""How long after a face is made its receipt is expected."""
MAX_DRAIN_SECONDS = 120.0


@dataclass
class Row:
    """The result of one answer."""

    answer: str
    seconds: str
    faces: int = 0
    quarantined: int = 0
    without_object: int = 0
    """Receipts without an object."""
    without_receipt: int = 0
    """Faces without a receipt after the drain."""
    twice: int = 0
    altered: int = 0
    overwritten: int = 0
    handed_back: int = 0
    rate: float = 1.0
    """Lowest rate of the devices that are not concerned during a fault, as a share of the faces that they make."""
    peak_mib: float = 0.0
    """Peak resident memory of the sink."""
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every face is stored once and unaltered, and each receipt has its object."""
        wrong = (self.quarantined, self.without_object, self.without_receipt, self.twice, self.altered)
        return not any(wrong) and not self.overwritten and not self.notes


class Trial:
    """Servers, proxy and devices for one answer."""

    def __init__(self, folder: Path, answer: Answer, durations: Sequence[float], *, partial_only: bool = False) -> None:
        """Prepare a trial.

        Args:
            folder: for data and logs.
            answer: what S3 answers.
            durations: how long, in seconds; one after the other.
            partial_only: leave out the faults of all keys.
        """
        self._partial_only = partial_only
        self.row = Row(answer.name.lower(), ", ".join(f"{seconds:g}" for seconds in durations))
        self._folder, self._answer, self._durations = folder, answer, durations

    def run(self) -> Row:
        """Run all faults and count the faces."""
        devices = [Device(name, RATE) for name in (FAILING_PREFIX, FAILING_KEY, *OTHERS)]
        with Stack(self._folder, watched=True) as stack, S3Proxy(stack.s3_port, seed=1) as proxy:
            stack.start_servers()
            sink = stack.start_connected("s3sink", AWS_ENDPOINT_URL_S3=f"http://{HOST}:{proxy.port}")
            with Publisher(stack.watch_port, devices) as publisher:
                await_true(lambda: all(len(device.receipts) > 20 for device in devices), 30, "faces are stored")
                for seconds in self._durations:
                    if not self._partial_only:
                        self._break(publisher, proxy, seconds, whole=True)
                    self._break(publisher, proxy, seconds, whole=False)
                publisher.is_making = False
                await_true(lambda: not publisher.waiting, MAX_DRAIN_SECONDS, "every face has its receipt")
                self.row.without_receipt = publisher.waiting
            if not sink.running:
                self.row.notes.append("the sink ended")
            else:
                self.row.peak_mib = peak_mib(sink.pid)
                sink.stop()
            self.row.handed_back = _handed_back(sink.output())
            self._count(stack, proxy, devices)
        return self.row

    def _break(self, publisher: Publisher, proxy: S3Proxy, seconds: float, *, whole: bool) -> None:
        await_true(lambda: publisher.is_calm, MAX_DRAIN_SECONDS, "the backlog is stored")
        if whole:
            targets = [""]
        else:
            targets = [f"/{BUCKET}/faces/device={FAILING_PREFIX}/", f"/{BUCKET}/{publisher.choose_key(FAILING_KEY)}"]
        broken_at = time.monotonic()
        proxy.faults = tuple(fault for target in targets for fault in self._faults(target, seconds))
        time.sleep(seconds)
        proxy.faults = ()
        if whole:
            return
        mended_at = time.monotonic()
        for name in OTHERS:
            times = publisher.devices[name].receipt_times
            await_true(lambda: time.monotonic() > mended_at + _LAG_SECONDS, 5, "the last receipts arrive")
            stored = sum(broken_at < moment - _LAG_SECONDS <= mended_at for moment in times)
            self.row.rate = min(self.row.rate, stored / (mended_at - broken_at) / RATE)

    def _faults(self, target: str, seconds: float) -> list[S3Fault]:
        """Half of the affected requests are executed before the fault occurs."""
        slow = min(seconds, 8.0)
        return [
            S3Fault(self._answer, after=False, share=0.5, under=target, seconds=slow),
            S3Fault(self._answer, after=True, share=1.0, under=target, seconds=slow),
        ]

    def _count(self, stack: Stack, proxy: S3Proxy, devices: Sequence[Device]) -> None:
        row, keys, client = self.row, stack.keys(), stack.s3()
        faces = {made.id: made for device in devices for made in device.committed.values()}
        row.faces = len(faces)
        row.quarantined = sum("/quarantine/" in key for key in keys)
        stored = {key: key.removesuffix(".jpg")[-36:] for key in keys if "/quarantine/" not in key}
        copies = Counter(stored.values())
        row.twice = sum(count > 1 for count in copies.values())
        row.without_object = sum(face_id not in copies for device in devices for face_id in device.receipts)
        row.overwritten = sum(count > 1 for path, count in proxy.written.items() if path.endswith(".jpg"))

        def is_altered(key: str) -> bool:
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            return face.digest_of(body) != faces[stored[key]].sha256

        with ThreadPoolExecutor(4) as pool:
            row.altered = sum(pool.map(is_altered, stored))


def peak_mib(pid: int) -> float:
    """Return the peak resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _handed_back(log: str) -> int:
    return int(log.rpartition("handed_back=")[2].split()[0]) if "handed_back=" in log else -1
