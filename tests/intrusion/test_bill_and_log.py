"""A device that wants to run up the bill of S3."""

from collections.abc import Callable

import pytest

from demo.ports import HOST, free_port
from demo.program import await_true
from demo.stack import Stack
from tests.intrusion.attacker import ROGUE, Intruder, credentials_of
from tests.scrape import scrape

FACES_PER_HOUR = 40
JUNK = 60


@pytest.fixture
def small(stack: Stack) -> int:
    """Servers and a sink with a small budget; the port of its metrics."""
    stack.authority.enroll(ROGUE).write(stack.folder, HOST)
    stack.start_servers()
    port = free_port()
    stack.start_connected("s3sink", DEVICE_FACES_PER_HOUR=str(FACES_PER_HOUR), METRICS_PORT=str(port))
    return port


def test_junk_objects_stay_within_the_budget_of_the_device(
    stack: Stack, small: int, record_property: Callable[[str, object], None]
):
    """What is put into quarantine costs a write, too."""
    with Intruder(stack, credentials_of(stack, ROGUE)) as intruder:
        for number in range(JUNK):
            intruder.publish(f"devices/{ROGUE}/faces/c{number}", b"junk %d" % number)
        await_true(
            lambda: sum(_values(small, "objects_quarantined", "messages_over_budget")) == JUNK,
            20,
            "the sink has judged each message",
        )
    stored = stack.keys()
    assert 0 < len(stored) <= FACES_PER_HOUR
    assert all(key.startswith(f"faces/quarantine/device={ROGUE}/") for key in stored)
    record_property("intrusion", (f"{JUNK} junk messages", f"{len(stored)} objects, the others are turned away"))


def _values(port: int, *results: str) -> list[float]:
    found = scrape(port)
    return [found[f"facewire_{result}_total"] for result in results]
