"""Remembers which sessions have been ended by sign-out, so that a copied cookie is of no use afterwards.

ended-sessions.json     {"until": 0, "ended": {"<session>": [<issued>, <expires>]}}, times in seconds since 1970
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from wire.errors import ConfigurationError
from wire.process import atomic_files

NAME = "ended-sessions.json"
MAX_SESSIONS = 5000
"""Maximum number of sessions that are remembered. Beyond it, all sessions as old as the oldest one are ended."""


class EndedSessions:
    """The sessions that have been ended and have not expired yet. They survive a restart."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Read the file.

        Raises:
            ConfigurationError: it is unreadable or damaged.
        """
        self._path = folder / NAME
        self._clock = clock
        self._until, self._ended = self._load()

    def add(self, session: str, issued: int, expires: int) -> None:
        """Remember that a session is ended.

        Raises:
            OSError: it is remembered until the process ends only, because the file cannot be written.
        """
        now = self._clock()
        self._ended[session] = (issued, expires)
        self._ended = {name: times for name, times in self._ended.items() if times[1] > now}
        while len(self._ended) > MAX_SESSIONS:
            oldest = min(self._ended, key=lambda name: self._ended[name])
            self._until = max(self._until, self._ended.pop(oldest)[0])
        atomic_files.write(self._path, json.dumps({"until": self._until, "ended": self._ended}).encode())

    def has(self, session: str, issued: int) -> bool:
        """Whether a session that was issued at ``issued`` is ended."""
        return issued <= self._until or session in self._ended

    def _load(self) -> tuple[int, dict[str, tuple[int, int]]]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return 0, {}
        except OSError as error:
            raise self._mistake(f"expected to read {NAME} in it ({error.strerror})") from None
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(content)
            ended = {str(name): (int(times[0]), int(times[1])) for name, times in found["ended"].items()}
            return int(found["until"]), ended
        raise self._mistake(
            f"its file {NAME} is damaged: `python -m cloud.gallery.admin password --new` removes it "
            "and ends all sessions"
        )

    def _mistake(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"GALLERY_FOLDER is '{self._path.parent}': {text}")
