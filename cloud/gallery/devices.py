"""The devices and their cameras, as their status messages describe them."""

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from wire import status, topics
from wire.errors import BadMessage
from wire.timestamps import format_time, parse_time
from wire.topics import Origin

SILENT_SECONDS = 150.0
"""A device is silent if it has not sent a status for so long. Each process repeats its status every 30 s, and of each
topic at most two messages per minute go over a thin link."""
MAX_DEVICES = 10_000
MAX_CAMERAS = 64
"""Maximum number of cameras of a device. A device can publish under any name of a camera."""
_MAX_STATUS_BYTES = 16_384
_SAVE_SECONDS = 30.0

_log = structlog.get_logger("gallery")


@dataclass(slots=True)
class CameraStatus:
    """The last status of a detector."""

    online: bool
    since: float
    """When it came online, or went offline: seconds since 1970."""
    seen: float
    """When its last status arrived: seconds since 1970."""
    frames: float = 0
    frames_per_second: float | None = None
    waiting: int | None = None
    """Faces in the outbox."""
    oldest: str | None = None
    """Capture time of the oldest of them, RFC 3339."""
    dropped: int | None = None


@dataclass(slots=True)
class DeviceStatus:
    """The last status of a forwarder, and its cameras."""

    online: bool
    since: float
    seen: float
    certificate_expires: str | None = None
    cameras: dict[str, CameraStatus] = field(default_factory=dict)


class Devices:
    """What is known of each device. Safe to use from several threads."""

    def __init__(
        self,
        path: Path,
        count_today: Callable[[Origin, date], int],
        zone: ZoneInfo,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read what was known before.

        Args:
            path: a file in which it is kept.
            count_today: returns the number of faces of a camera and a day.
            zone: of the day.
            clock: seconds since 1970.
        """
        self._path, self._count_today, self._zone, self._clock = path, count_today, zone, clock
        self._lock = threading.Lock()
        self._devices = _load(path)
        self._saved_at = float("-inf")

    def update(self, topic: str, payload: bytes) -> bool:
        """Take a status. Return whether a device or a camera has come online or gone offline."""
        levels = topics.status_of(topic)
        if levels is None or len(payload) > _MAX_STATUS_BYTES:
            return False
        device, process, name = levels
        try:
            stats = status.decode(payload)
        except BadMessage as error:
            _log.warning("status ignored", device=device, reason=str(error))
            return False
        with self._lock:
            if process == "forwarder" and name == device:
                has_changed = self._update_device(device, stats)
            elif process == "detector":
                has_changed = self._update_camera(device, name, stats)
            else:
                has_changed = False
            if self._clock() - self._saved_at > _SAVE_SECONDS:
                self._save()
        return has_changed

    def list(self) -> "list[dict[str, Any]]":
        """Return every device, sorted by name, as JSON objects. Times are RFC 3339 in UTC."""
        now = self._clock()
        today = datetime.fromtimestamp(now, self._zone).date()
        with self._lock:
            return [self._shown(name, known, now, today) for name, known in sorted(self._devices.items())]

    def snapshot(self) -> dict[str, DeviceStatus]:
        """Return a copy of what is known, by device. A device or camera that is silent is not online."""
        now = self._clock()
        with self._lock:
            return {name: self._as_of(known, now) for name, known in self._devices.items()}

    def _as_of(self, known: DeviceStatus, now: float) -> DeviceStatus:
        online = not self._is_silent(known, now)
        cameras = {camera: replace(one, online=one.online and online) for camera, one in known.cameras.items()}
        return replace(known, online=online, cameras=cameras)

    def save(self) -> None:
        """Write what is known to the file."""
        with self._lock:
            self._save()

    def _update_device(self, device: str, stats: dict[str, Any]) -> bool:
        now, online = self._clock(), bool(stats["online"])
        known = self._devices.get(device)
        if known is None:
            if len(self._devices) >= MAX_DEVICES:
                return False
            up_since = _number(stats.get("cloud_up_since"))
            known = DeviceStatus(online, up_since if online and up_since and 0 < up_since <= now else now, now)
            self._devices[device] = known
            has_changed = True
        else:
            has_changed = known.online != online or self._is_silent(known, now)
            if known.online != online:
                known.online, known.since = online, now
            known.seen = now
        if online:
            known.certificate_expires = _time(stats.get("certificate_expires"))
        return has_changed

    def _update_camera(self, device: str, camera: str, stats: dict[str, Any]) -> bool:
        now, online = self._clock(), bool(stats["online"])
        known = self._devices.get(device)
        if known is None:
            if len(self._devices) >= MAX_DEVICES:
                return False
            known = self._devices[device] = DeviceStatus(online, now, now)
        before = known.cameras.get(camera)
        if before is None and len(known.cameras) >= MAX_CAMERAS:
            return False
        known.seen = now
        frames = _number(stats.get("frames")) or 0
        latest = CameraStatus(online, now, now, frames)
        if before is not None and before.online == online:
            latest.since = before.since
        if online:
            if before is not None and before.online and frames >= before.frames and now > before.seen:
                latest.frames_per_second = round((frames - before.frames) / (now - before.seen), 1)
            latest.waiting, latest.dropped = _count(stats.get("outbox")), _count(stats.get("dropped"))
            latest.oldest = _time(stats.get("oldest"))
        elif before is not None:
            latest.waiting, latest.dropped, latest.oldest = before.waiting, before.dropped, before.oldest
        known.cameras[camera] = latest
        return before is None or before.online != online

    def _is_silent(self, known: DeviceStatus, now: float) -> bool:
        return not known.online or now - known.seen > SILENT_SECONDS

    def _shown(self, name: str, known: DeviceStatus, now: float, today: date) -> dict[str, Any]:
        is_silent = self._is_silent(known, now)
        return {
            "device": name,
            "online": not is_silent,
            "since": _text(known.since),
            "silent_since": _text(known.since if not known.online else known.seen) if is_silent else None,
            "certificate_expires": known.certificate_expires,
            "cameras": [
                {
                    "camera": camera,
                    "online": one.online and not is_silent,
                    "since": _text(one.since),
                    "frames_per_second": one.frames_per_second if one.online and not is_silent else None,
                    "faces_today": self._count_today(Origin(name, camera), today),
                    "waiting": one.waiting,
                    "oldest_seconds": None if one.oldest is None else max(0, round(now - _seconds(one.oldest))),
                    "dropped": one.dropped,
                }
                for camera, one in sorted(known.cameras.items())
            ],
        }

    def _save(self) -> None:
        self._saved_at = self._clock()
        part = self._path.with_suffix(".part")
        try:
            part.write_text(json.dumps({name: asdict(known) for name, known in self._devices.items()}))
            part.replace(self._path)
        except OSError as error:
            _log.warning("the devices are not saved", path=str(self._path), reason=str(error))


def _load(path: Path) -> dict[str, DeviceStatus]:
    """Return the devices in the file; none if it is missing or damaged, as each device repeats its status."""
    try:
        return {name: _device(known) for name, known in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _device(known: dict[str, Any]) -> DeviceStatus:
    cameras = {camera: CameraStatus(**one) for camera, one in known.pop("cameras").items()}
    return DeviceStatus(**known, cameras=cameras)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e15 and math.isfinite(value) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or number < 0 else int(number)


def _time(value: Any) -> str | None:
    """Return a time as RFC 3339 in UTC; None if it is none."""
    try:
        return format_time(parse_time(value)) if isinstance(value, str) else None
    except BadMessage:
        return None


def _seconds(text: str) -> float:
    return parse_time(text).timestamp()


def _text(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))
