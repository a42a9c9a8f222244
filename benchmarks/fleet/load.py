"""``python -m benchmarks.fleet.load FOLDER PORT COUNT``: light devices in one process, which obeys commands.

``FOLDER`` has a folder with a certificate for each device. With ``shared`` as the last argument, all devices connect
from one address. Each command is a line at the standard input. The answer is a line of JSON:

- ``pace N``: capture N faces per second on all devices together; ``pace inf``: as many as receipts allow
- ``status``: what there is at this moment
- ``ids FILE``: write the ids of all captured faces to a file
"""

import json
import os
import resource
import selectors
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fleet.device import Device
from benchmarks.measure import faces_of
from tests.builders import make_jpeg
from wire.mqtt.tls import TlsFiles
from wire.process.congestion import INITIAL_BYTES

FACE_BYTES = 20_000
_POLL_SECONDS = 0.05
_DEVICES_PER_NETWORK = 200


def name_of(number: int) -> str:
    """Return the name of a device."""
    return f"light-{number:04d}"


def address_of(number: int, *, is_shared: bool) -> str:
    """Return the loopback address from which a device connects: one of its own, or one for all behind one router."""
    return "127.0.1.1" if is_shared else f"127.1.{number // _DEVICES_PER_NETWORK}.{number % _DEVICES_PER_NETWORK + 1}"


class Load:
    """All devices of the process."""

    def __init__(self, folder: Path, port: int, count: int, *, is_shared: bool) -> None:
        """Load the certificates. Nothing is connected yet."""
        jpeg = make_jpeg()
        one = faces_of(1, jpeg[:-2] + bytes(FACE_BYTES - len(jpeg)) + jpeg[-2:], "door")[0]
        assert INITIAL_BYTES > FACE_BYTES
        self.devices = []
        for number in range(count):
            files = folder / name_of(number)
            context = TlsFiles(files / "ca.pem", files / "cert.pem", files / "key.pem").context()
            address = address_of(number, is_shared=is_shared)
            self.devices.append(Device(name_of(number), address, port, context, one))
        self._selector = selectors.EpollSelector()
        self._watched: dict[Device, tuple[int, int]] = {}
        """The file descriptor of each connected device, and the events for which it is watched."""

    def run(self) -> None:
        """Work until the standard input ends."""
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        os.set_blocking(sys.stdin.fileno(), False)
        commands = b""
        stepped_at = 0.0
        while True:
            for key, _ in self._selector.select(_POLL_SECONDS):
                if key.data is None:
                    data = os.read(sys.stdin.fileno(), 4096)
                    if not data:
                        return
                    commands += data
                    *lines, commands = commands.split(b"\n")
                    for line in lines:
                        print(json.dumps(self._obey(line.decode())), flush=True)
                else:
                    self._handle(key.data)
            now = time.monotonic()
            if now - stepped_at >= _POLL_SECONDS:
                stepped_at = now
                for device in self.devices:
                    if now >= device.next_step_at:
                        device.step(now)
                        self._handle(device)

    def _handle(self, device: Device) -> None:
        now = time.monotonic()
        try:
            if device.socket is not None:
                device.handle(now)
        except OSError:
            self._forget(device)
            device.lose(now)
        self._watch(device)

    def _watch(self, device: Device) -> None:
        if device.socket is None:
            self._forget(device)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if device.wants_to_write else 0)
        watched = device.socket.fileno(), events
        if self._watched.get(device) == watched:
            return
        if device in self._watched and self._watched[device][0] == watched[0]:
            self._selector.modify(watched[0], events, device)
        else:
            self._forget(device)
            self._selector.register(watched[0], events, device)
        self._watched[device] = watched

    def _forget(self, device: Device) -> None:
        watched = self._watched.pop(device, None)
        if watched is not None:
            self._selector.unregister(watched[0])

    def _obey(self, command: str) -> dict[str, Any]:
        name, _, argument = command.partition(" ")
        if name == "pace":
            for device in self.devices:
                device.begin(float(argument) / len(self.devices))
        elif name == "ids":
            Path(argument).write_text("".join(f"{one} {d.name}\n" for d in self.devices for one in d.faces))
        return self._status()

    def _status(self) -> dict[str, Any]:
        now = time.monotonic()
        refused = sum((device.counts.refused for device in self.devices), Counter[int]())
        return {
            "at": now,
            "connected": sum(device.connected for device in self.devices),
            "connections": sum(device.counts.connections for device in self.devices),
            "captured": sum(len(device.faces) for device in self.devices),
            "sent": sum(device.counts.sent for device in self.devices),
            "pending": sum(device.pending for device in self.devices),
            "receipts": [device.counts.receipts for device in self.devices],
            "oldest": max((now - at for device in self.devices for _, at in device.open.values()), default=0.0),
            "refused": {f"{code:#04x}": count for code, count in refused.items()},
        }


def _main() -> None:
    folder, port, count, is_shared = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["shared"]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Load(folder, port, count, is_shared=is_shared).run()


if __name__ == "__main__":
    _main()
