"""The whole chain, an honest device that publishes during all intrusions of a module, and the record."""

from collections.abc import Callable, Iterator

import pytest

from demo.ports import HOST
from demo.stack import Stack
from tests.intrusion.attacker import CROWD, FLOODER, LONG_FLOODER, NEWCOMER, ROGUE, Record
from tests.intrusion.honest_device import HonestDevice

LIMITS = {"connect_burst": 300}
"""The rogue device connects for each intrusion anew."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, _servers_are_installed: None) -> Iterator[Stack]:
    """The whole chain as in production, with more devices: rogue ones and a revoked one."""
    with Stack(tmp_path_factory.mktemp("cloud"), limits=LIMITS) as stack:
        for name in (ROGUE, FLOODER, LONG_FLOODER, CROWD, NEWCOMER, "revoked"):
            stack.authority.enroll(name).write(stack.folder, HOST)
        stack.authority.revoke("revoked")
        stack.start_servers()
        stack.start_connected("s3sink")
        stack.start_connected("forwarder")
        yield stack


@pytest.fixture(scope="module")
def honest(cloud: Stack) -> Iterator[HonestDevice]:
    """An honest device that publishes during all intrusions. After them, each of its faces is in S3, once."""
    with HonestDevice(cloud) as honest:
        honest.await_progress()
        yield honest
        honest.await_nothing_lost()


@pytest.fixture
def record(record_property: Callable[[str, object], None], honest: HonestDevice) -> Iterator[Record]:
    """Record the result of an intrusion. Afterwards the honest device must still make progress."""
    yield lambda attempt, result: record_property("intrusion", (attempt, result))
    honest.await_progress()
