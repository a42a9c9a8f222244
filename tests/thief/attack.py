"""``python -m tests.thief.attack WAY NAME PORT FOLDER ADDRESS SECONDS``: attack in one way. Prints what it did as JSON.

It runs in a process of its own with a lower priority, because a real thief has a machine of its own.
"""

import contextlib
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from tests.thief.link import Thief, TimeIsUp
from tests.thief.ways import WAYS
from wire.mqtt.tls import TlsFiles

_NICENESS = 10
_MAX_FILES = 8192
_PAUSE_SECONDS = 0.02
"""Pause after the broker has ended a connection."""


def attack(way: str, name: str, port: int, folder: Path, address: str, seconds: float) -> Counter[str]:
    """Attack in one way with the certificate in ``folder`` until the time is up, and return what was done."""
    tls = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    thief = Thief(name, port, tls, address, time.monotonic() + seconds)
    with contextlib.suppress(TimeIsUp):
        while True:
            try:
                WAYS[way](thief)
            except OSError:
                thief.done["ended by the broker"] += 1
                thief.pause(_PAUSE_SECONDS)
    return thief.done


def _main() -> None:
    way, name, port, folder, address, seconds = sys.argv[1:]
    os.nice(_NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _MAX_FILES), most))
    done = attack(way, name, int(port), Path(folder), address, float(seconds))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**done, "cpu": round(used.ru_utime + used.ru_stime, 1)}), flush=True)


if __name__ == "__main__":
    _main()
