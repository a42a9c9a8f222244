"""``python -m tests.iot_core``: send an hour's worth of faces through the stand-in for AWS IoT Core, and count them.

Exits with 1 if a face was lost or stored twice, or if a limit of AWS IoT Core was exceeded.
"""

import itertools
import shutil
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from demo.program import ROOT
from tests.iot_core.site import SHARE, Result, Site
from wire.process.command import make_parser

HOUR_OF_FACES = 3600
"""One a second."""
_SIZES = (20_000, 3_000, 3_000, 3_000)
"""Bytes of the faces, in turn. Small ones reach the limit of messages, large ones that of bytes."""
_BLOCK = 150
"""Faces of one size that follow each other."""
_BYTES_PER_SECOND, _MESSAGES_PER_SECOND = 300_000, 60
"""Less than the limits, for the time that is allowed."""


def sizes_of(count: int, *, full: bool) -> list[int]:
    """Return the sizes of the faces: with ``full``, all have 20 kB."""
    if full:
        return [20_000] * count
    blocks = itertools.cycle(_SIZES)
    return [size for _ in range(count // _BLOCK + 1) for size in [next(blocks)] * _BLOCK][:count]


def exceeded(result: Result) -> int:
    """Return how often a limit was exceeded: messages discarded or delayed, and connections ended."""
    return sum(one.discarded + one.delayed + one.disconnected.total() for one in result.counts.values())


def show(result: Result, *, has_sink: bool) -> None:
    """Print what was counted."""
    table = Table(title="what the stand-in has counted on each client's connections")
    for name in ("client", "connections", "published", "delivered", "discarded", "delayed", "disconnected"):
        table.add_column(name)
    for name in ("most messages/s", "most KiB/s", "most unacknowledged"):
        table.add_column(name, justify="right")
    for client, one in sorted(result.counts.items()):
        ended = ", ".join(f"{count} x {reason}" for reason, count in one.disconnected.items()) or "0"
        counts = (one.connections, one.published, one.delivered, one.discarded, one.delayed, ended)
        peaks = (one.most_messages, f"{one.most_bytes / 1024:.0f}", one.most_unacknowledged)
        table.add_row(client, *map(str, (*counts, *peaks)))
    Console(width=150).print(table)
    stored = f", {result.stored} stored, {result.others} other objects" if has_sink else ""
    receipts = "all receipts" if result.receipted else "receipts are missing"
    print(f"{result.faces} faces in {result.seconds:.0f} s{stored}, {receipts}, {exceeded(result)} times above a limit")


def main(arguments: Sequence[str]) -> int:
    """Run the chain and return the exit status."""
    parser = make_parser("tests.iot_core", "Sends an hour's worth of faces through a stand-in for AWS IoT Core.")
    parser.add_argument("--faces", type=int, default=HOUR_OF_FACES, help="how many (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="all faces have 20 kB; this takes about three minutes")
    parser.add_argument("--receipts", choices=("sink", "broker"), default="sink", help="who sends receipts")
    parser.add_argument("--unlimited", action="store_true", help="without the settings for the limits")
    parser.add_argument("--seconds", type=float, default=0, help="give up after this time (default: by the faces)")
    options = parser.parse_args(arguments)
    folder = ROOT / "build" / "iot-core"
    shutil.rmtree(folder, ignore_errors=True)
    sizes = sizes_of(options.faces, full=options.full)
    seconds = options.seconds or 60 + sum(sizes) / _BYTES_PER_SECOND + len(sizes) / _MESSAGES_PER_SECOND
    site = Site(folder, sizes, receipts=options.receipts, share=None if options.unlimited else SHARE)
    result = site.run(seconds)
    has_sink = options.receipts == "sink"
    show(result, has_sink=has_sink)
    is_complete = result.receipted and (not has_sink or (result.stored == result.faces and not result.others))
    return 0 if is_complete and not exceeded(result) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
