"""Fixtures that start real servers.

If a server program is missing, the test is skipped on a developer's machine and fails in CI.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from demo import program
from demo.program import NotInstalled, find_program
from demo.stack import Stack

LONGEST = (
    "intrusion/test_gallery",
    "test_chaos",
    "monitoring/test_live",
    "test_s3_answers",
    "test_replicas",
    "test_links",
    "test_sink",
    "test_pipeline",
)
"""The files whose tests take longest. They run first, so that the last process to end does not run alone for long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    places = {name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        return places.get(str(item.path.relative_to(Path(__file__).parent).with_suffix("")), len(places))

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table with the result of each intrusion test."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    results = [row for report in reports for name, row in getattr(report, "user_properties", ()) if name == "intrusion"]
    failed = [report for report in terminalreporter.stats.get("failed", []) if "tests/intrusion" in report.nodeid]
    if results:
        table = Table("intrusion", "result", title=f"{len(results)} intrusions blocked, {len(failed)} tests failed")
        for row in results:
            table.add_row(*row)
        Console(width=150).print(table)


program.PATIENCE = 4.0  # time limits must also hold on a busy machine


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")


def _require_servers() -> None:
    try:
        for name in ("mosquitto", "mosquitto_pub", "weed"):
            find_program(name)
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def _servers_are_installed() -> None:
    _require_servers()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two brokers and an S3 server with a bucket, shared by all tests that do not stop or change them."""
    _require_servers()
    with Stack(tmp_path_factory.mktemp("servers"), watched=True) as stack:
        stack.start_servers()
        yield stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack for one test, which may kill its processes. Nothing is started."""
    _require_servers()
    with Stack(tmp_path / "stack", watched=True) as stack:
        yield stack
