"""How long damaged files are kept. They have faces, so not forever; but no wrong clock may delete them."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from edge.detector.delivery.storage.damaged_files import DamagedFiles
from wire.process import clock

KEPT_DAYS = 30
"""Days for which a damaged file is kept, so that somebody can look for faces in it."""
STEADY_SECONDS = 3600.0
"""A file is deleted only if the clock was not changed for so long."""
_TOLERANCE = timedelta(minutes=1)

_log = structlog.get_logger("outbox")


class Retention:
    """Deletes damaged files that were kept long enough.

    The age of a file is counted from its modification time. If that is implausible, because the clock was not set or
    was wrong, the file counts as new.
    """

    def __init__(self, files: DamagedFiles) -> None:
        self._files = files
        self._boot_time = _boot_time()
        self._steady_since = clock.seconds_since_boot()

    def delete_old(self) -> None:
        """Delete the files that were kept long enough, if the clock is set and was not changed lately."""
        now, boot_time = clock.now(), _boot_time()
        if abs(boot_time - self._boot_time) > _TOLERANCE:
            self._steady_since = clock.seconds_since_boot()
        self._boot_time = boot_time
        if not clock.is_set(now) or clock.seconds_since_boot() < self._steady_since + STEADY_SECONDS:
            return
        for path in self._files.kept():
            try:
                self._delete_if_old(path, now)
            except OSError as error:
                _log.warning("old damaged outbox cannot be deleted", path=str(path), reason=str(error))

    def _delete_if_old(self, path: Path, now: datetime) -> None:
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if not clock.is_set(modified) or modified > now + _TOLERANCE:
            os.utime(path, (now.timestamp(), now.timestamp()))
        elif now - modified > timedelta(days=KEPT_DAYS):
            Path(f"{path}-wal").unlink(missing_ok=True)
            path.unlink()
            _log.warning("old damaged outbox deleted", path=str(path), days=KEPT_DAYS)


def _boot_time() -> datetime:
    return clock.now() - timedelta(seconds=clock.seconds_since_boot())
