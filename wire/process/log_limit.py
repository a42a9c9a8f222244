"""Limits how many lines a process logs, so that nobody who sends messages can fill the log.

Lines are counted for ten seconds, by their event and by the device that they are about. Lines about devices are also
limited in all, so many devices cannot fill the log either. Lines that are not about a device do not count there: what
the process says about itself is logged whatever the devices do. The number of lines left out is logged.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog

WINDOW_SECONDS = 10.0
MAX_LINES = 10
"""Maximum number of lines of one event about one device in a window."""
MAX_DEVICE_LINES = 50
"""Maximum number of lines about devices in a window."""
_MAX_KEYS = 1000
"""Devices and events that are counted separately in a window."""
_MAX_NAME_CHARACTERS = 64
_UNLIMITED = ("debug", "critical")
"""Levels that are not limited: one is switched on to see every line, the other is used once, at the end."""
_FIELDS = ("device", "topic", "key")
"""Fields that say which device a line is about. The key is that of an object in S3."""
_DEVICE = re.compile(r"(?:devices/|.*?\bdevice=)([^/]*)", re.DOTALL)
_LEFT_OUT = "lines left out of the log"

_Key = tuple[str, str | None]
"""Event, and the device that a line is about; None if it is about the process itself."""


class LineLimit:
    """A processor of structlog that drops lines above the limit."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ends_at = clock() + WINDOW_SECONDS
        self._device_lines = 0
        self._lines: Counter[_Key] = Counter()
        self._left_out: Counter[_Key] = Counter()

    def __call__(self, _logger: object, level: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Return a line, or drop it if it is above the limit."""
        if level in _UNLIMITED or line["event"] == _LEFT_OUT:
            return line
        self.report()
        key = (str(line["event"])[:_MAX_NAME_CHARACTERS], _device_of(line))
        with self._lock:
            if not self._may_pass(key):
                self._left_out[self._counted(self._left_out, key)] += 1
                raise structlog.DropEvent
        return line

    def report(self, *, is_last: bool = False) -> None:
        """If the window has ended, or at the end of the process, log how many lines were left out in it."""
        with self._lock:
            now = self._clock()
            if now < self._ends_at and not is_last:
                return
            left_out, self._left_out = self._left_out, Counter()
            self._lines, self._device_lines, self._ends_at = Counter(), 0, now + WINDOW_SECONDS
        if left_out:
            most = [
                f"{event} ({device}): {count}" if device else f"{event}: {count}"
                for (event, device), count in left_out.most_common(3)
            ]
            structlog.get_logger("log").error(_LEFT_OUT, lines=left_out.total(), most=most)

    def _may_pass(self, key: _Key) -> bool:
        is_about_device = key[1] is not None
        counted = self._counted(self._lines, key)
        if self._lines[counted] >= MAX_LINES or (is_about_device and self._device_lines >= MAX_DEVICE_LINES):
            return False
        self._lines[counted] += 1
        self._device_lines += is_about_device
        return True

    def _counted(self, counter: Counter[_Key], key: _Key) -> _Key:
        """Return the key under which a line is counted: if there are too many, all others count as one."""
        is_full = key[1] is not None and len(counter) >= _MAX_KEYS
        return ("other lines", "other devices") if is_full and key not in counter else key


def _device_of(line: structlog.typing.EventDict) -> str | None:
    """Return the device that a line is about: None if it is about none, an empty text if it is not known which."""
    named = next((str(line[field]) for field in _FIELDS if line.get(field) is not None), None)
    if named is None or "device" in line:
        return named if named is None else named[:_MAX_NAME_CHARACTERS]
    found = _DEVICE.match(named[:512])
    return found[1][:_MAX_NAME_CHARACTERS] if found else ""
