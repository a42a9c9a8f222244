"""The log cannot be filled or forged by those whose messages it is about."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from demo.program import ROOT, await_true
from demo.stack import Stack
from tests.builders import Peer
from wire.mqtt.properties import Properties
from wire.process import log
from wire.process.log_limit import MAX_DEVICE_LINES, MAX_LINES, WINDOW_SECONDS, LineLimit
from wire.process.log_text import MAX_BYTES, loggable, one_line

FORMATS = ("console", "json")
FORGED = "\n2026-11-22T15:04:05Z [error    ] forged"
HOSTILE = {
    "ESC": "\x1b[2J\x1b[31m",
    "C1 control": "\x9b31m",
    "line break": FORGED,
    "carriage return": "\rforged",
    "line separator": "\u2028forged",
    "right-to-left override": "\u202eforged\u2066",
    "zero width": "for\u200bged",
    "half a character": "\udc1b",
    "NUL": "\0",
}


@pytest.fixture(autouse=True)
def _structlog() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_flood_of_large_messages_writes_little(
    capfd: pytest.CaptureFixture[str], log_format: Literal["console", "json"]
):
    """150 topics of 64 KB. What was left out is counted, with the device."""
    log.configure("info", log_format)
    for number in range(150):
        topic = f"devices/jetson-7/faces/{number}/" + "\N{GRINNING FACE}" * 16_000
        structlog.get_logger().warning("message quarantined", topic=topic, key=topic, reason=f"topic {topic!r} is long")
    log.report_left_out(is_last=True)
    lines = lines_of(capfd)
    assert len(lines) == MAX_LINES + 1
    assert sum(map(len, lines)) < 40_000
    assert "message quarantined (jetson-7): 140" in lines[-1]


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_control_characters_are_escaped(
    capfd: pytest.CaptureFixture[str], kind: str, log_format: Literal["console", "json"]
):
    """In every field, in lists, and in a traceback. In JSON also after it was decoded."""
    log.configure("info", log_format)
    text = f"a{HOSTILE[kind]}b"
    try:
        raise ValueError(text)
    except ValueError:
        structlog.get_logger().error("failed", topic=text, ids=[text], counts={text: 1}, exc_info=True)
    written = capfd.readouterr().err.removesuffix("\n")
    if log_format == "json":
        decoded = json.loads(written)
        assert "\n" not in written
        assert all(line.startswith("    ") for line in decoded["exception"].split("\n"))
        written = "".join(map(str, decoded.values()))
    assert all(line.isprintable() for line in written.split("\n"))
    assert not any(line.startswith(("2026-11-22", "forged")) for line in written.split("\n"))


def test_a_text_is_cut_and_says_so():
    """A text of exactly the limit is not cut."""
    assert one_line("x" * MAX_BYTES) == "x" * MAX_BYTES
    assert one_line("x" * 65_000) == "x" * MAX_BYTES + f"... ({65_000 - MAX_BYTES} more characters)"
    assert one_line("é" * MAX_BYTES) == "é" * (MAX_BYTES // 2) + f"... ({MAX_BYTES // 2} more characters)"
    listed = loggable([f"{number:036}" for number in range(1000)])
    assert isinstance(listed, list)
    assert (len(listed), listed[-1]) == (56, "... (945 more)")


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_traceback_is_cut(capfd: pytest.CaptureFixture[str], log_format: Literal["console", "json"]):
    """Its beginning and its end are shown."""
    log.configure("info", log_format)
    try:
        raise ValueError("\n".join(["first", *("x" * 1000 for _ in range(10_000)), "last"]))
    except ValueError:
        structlog.get_logger().error("failed", exc_info=True)
    written = capfd.readouterr().err
    assert len(written) < 30_000
    assert "Traceback" in written
    assert "first" in written
    assert "more lines" in written
    assert "last" in written


def test_credentials_are_starred_in_the_log(capfd: pytest.CaptureFixture[str]):
    """Also those that a server or a driver quotes in its message."""
    log.configure("info", "console")
    structlog.get_logger().error("failed", reason="cannot open rtsp://admin:hush@10.0.0.9/s", topic="x?token=hush")
    written = capfd.readouterr().err
    assert "hush" not in written
    assert "10.0.0.9" in written


def passed(limit: LineLimit, event: str, **fields: str) -> bool:
    try:
        limit(None, "warning", {"event": event, **fields})
    except structlog.DropEvent:
        return False
    return True


def test_each_event_and_device_has_its_own_limit():
    """The device is the one that is named, or that of a topic or of a key in S3."""
    limit = LineLimit(Clock())
    for _ in range(MAX_LINES):
        assert passed(limit, "quarantined", topic="devices/jetson-1/faces/x")
    assert not passed(limit, "quarantined", topic="devices/jetson-1/faces/y")
    assert not passed(limit, "quarantined", device="jetson-1")
    assert not passed(limit, "quarantined", key="a/faces/device=jetson-1/camera=door/x.jpg")
    assert passed(limit, "refused", topic="devices/jetson-1/faces/x")
    assert passed(limit, "quarantined", topic="devices/jetson-2/faces/x")


def test_all_devices_together_have_a_limit_and_do_not_drown_the_process_itself():
    """However many devices there are, and however many topics that belong to none."""
    limit = LineLimit(Clock())
    assert sum(passed(limit, "quarantined", device=f"jetson-{number}") for number in range(5000)) == MAX_DEVICE_LINES
    assert not passed(limit, "quarantined", topic="nonsense")
    assert sum(passed(limit, "S3 does not accept objects", reason="503") for _ in range(100)) == MAX_LINES
    assert passed(limit, "ended")
    assert len(limit._left_out) < 1100


def test_lines_pass_again_when_the_window_has_ended(capfd: pytest.CaptureFixture[str]):
    """The number of those left out is logged once, before the next line, and not at all if there are none."""
    log.configure("info", "console")
    clock = Clock()
    limit = LineLimit(clock)
    for _ in range(MAX_LINES + 7):
        passed(limit, "quarantined", device="jetson-1")
    assert lines_of(capfd) == []
    clock.now = WINDOW_SECONDS
    assert passed(limit, "quarantined", device="jetson-1")
    (line,) = lines_of(capfd)
    assert "lines=7" in line
    assert "quarantined (jetson-1): 7" in line
    clock.now = 2 * WINDOW_SECONDS
    assert passed(limit, "quarantined", device="jetson-1")
    assert lines_of(capfd) == []


def test_the_levels_debug_and_critical_are_not_limited():
    """Debug is switched on to see every line. The last line of a process is never left out."""
    limit = LineLimit(Clock())
    for level in ("debug", "critical"):
        for _ in range(MAX_LINES + 1):
            assert limit(None, level, {"event": "stored", "device": "jetson-1"})


def test_threads_together_do_not_exceed_the_limit():
    limit = LineLimit(Clock())
    counts: list[int] = []

    def work() -> None:
        counts.append(sum(passed(limit, "quarantined", device="jetson-1") for _ in range(1000)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == MAX_LINES


def test_messages_of_libraries_are_limited_and_escaped_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Python's own logging would write warnings as they are."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # without those of pytest
    log.configure("info", "console")
    for _ in range(50):
        logging.getLogger("urllib3").warning("pool is full: %s", "http://a:hush@b/\x1b[2J" + "x" * 10_000)
    logging.getLogger("botocore").warning("%d", "not a number")
    lines = lines_of(capfd)
    assert len(lines) == MAX_LINES
    assert all(line.isprintable() and len(line) < 600 and "hush" not in line for line in lines)


PROGRAM = """
import sys, structlog
from wire.process import lifecycle
lifecycle.WINDOW_SECONDS = 0.05
from wire.process import log_limit
log_limit.WINDOW_SECONDS = 0.5
def main(stop):
    for _ in range(100):
        structlog.get_logger().warning("flood")
    print("flooded", flush=True)
    stop.wait({wait})
    {then}
sys.exit(lifecycle.run(main))
"""


@pytest.mark.parametrize(
    ("wait", "then", "status"),
    [("20", "pass", 0), ("0", "pass", 0), ("0", "raise ValueError('\\x1b[2J\\nforged')", 70)],
    ids=["while it is quiet", "at the end", "at an unexpected end"],
)
def test_the_number_of_lines_left_out_is_logged(wait: str, then: str, status: int):
    """When the window ends although nothing else is logged, and when the process ends."""
    program = PROGRAM.format(wait=wait, then=then)
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "left out" in line and wait != "0":
                process.terminate()
    assert process.returncode == status
    assert sum("] flood" in line for line in lines) == MAX_LINES
    assert sum("lines=90" in line for line in lines) == 1
    assert not [line for line in lines if "\x1b" in line or line.startswith("forged")]


@pytest.mark.slow
def test_a_sink_that_is_sent_large_topics_logs_little(stack: Stack):
    """One device publishes 150 messages whose topics have 60 KB. The log names the device."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    sink = stack.start_connected("s3sink")
    with Peer(stack.watch_port, "devices/+/receipts/+") as device:
        for number in range(150):
            topic = f"devices/jetson-7/faces/{number}" + "\u202e" * 20_000
            device.session.publish(topic, b"x", qos=1, properties=Properties()).result(20)
        await_true(lambda: len(stack.keys()) == 150, 30, "every message is in quarantine")
    assert sink.stop() == 0
    assert len(sink.output()) < 60_000
    assert "jetson-7" in sink.output()
