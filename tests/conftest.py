"""Real servers for the tests. On a laptop without them a test is skipped; in CI it fails."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.program import NotInstalled, find_program
from demo.stack import Stack


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")


def _require_servers() -> None:
    try:
        for program in ("mosquitto", "mosquitto_pub", "weed"):
            find_program(program)
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two brokers and an S3 server with a bucket, for all tests that leave them as they are."""
    _require_servers()
    with Stack(tmp_path_factory.mktemp("servers"), watched=True) as stack:
        stack.start_servers()
        yield stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of the test's own, to be killed and cut; nothing is started."""
    _require_servers()
    with Stack(tmp_path / "stack", watched=True) as stack:
        yield stack
