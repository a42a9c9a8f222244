"""The files of sign-in: the hash of the password, the key that signs cookies, and the password until it was shown.

sign-in.json        {"hash": "$argon2id$...", "key": "<64 hex digits>"}
password-to-show    the password, from the first start until ``python -m cloud.gallery.admin password`` prints it
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cloud.gallery.web.access import password
from cloud.gallery.web.access.ended_sessions import NAME as ENDED_SESSIONS
from wire.errors import ConfigurationError
from wire.process import atomic_files

_NAME = "sign-in.json"
PASSWORD_TO_SHOW = "password-to-show"  # noqa: S105 (the name of a file)
_LOCK = "sign-in.lock"
_KEY = re.compile(r"[0-9a-f]{64}")
_KEY_BYTES = 32
_MAX_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a sign-in is checked with."""

    hashed: str
    """Hash of the password."""
    key: str
    """Signs the cookies."""


class SignInFile:
    """The files of sign-in in the gallery's folder. A change by another process is noticed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _NAME
        self._to_show = folder / PASSWORD_TO_SHOW
        self._stamp: tuple[int, int, int] | None = None
        self._read: SignIn | None = None

    def ensure(self) -> bool:
        """Make a password if there is none, and return whether one was made.

        Raises:
            ConfigurationError: the files cannot be written or read.
        """
        with self._locked():
            if made := not self._path.exists():
                made_password = password.make()
                self._write(self._to_show, f"{made_password}\n")  # first: a crash must not lose it
                self._write_sign_in(made_password)
        self.current()
        return made

    def current(self) -> SignIn:
        """Return what a sign-in is checked with now.

        Raises:
            ConfigurationError: the file is missing, unreadable or damaged.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read is None or stamp != self._stamp:
                self._read, self._stamp = None, stamp
                self._read = self._parse(self._path.read_bytes()[:_MAX_BYTES])
        except OSError as error:
            raise self._mistake(f"expected a readable file {_NAME} in it ({error.strerror})") from None
        return self._read

    def take_password_to_show(self, show: Callable[[str], None]) -> bool:
        """Call ``show`` with the password if it has not been shown, forget it, and return whether it was shown.

        Raises:
            ConfigurationError: the files cannot be written or read.
        """
        with self._locked():
            if not self._to_show.exists():
                return False
            try:
                text = self._to_show.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise self._mistake(f"expected a readable file {PASSWORD_TO_SHOW} in it ({error})") from None
            show(text)
            self._remove(PASSWORD_TO_SHOW)
            return True

    def replace(self) -> str:
        """Make another password and another key, which ends all sessions. Return the password.

        Raises:
            ConfigurationError: the files cannot be written.
        """
        with self._locked():
            made = password.make()
            self._remove(PASSWORD_TO_SHOW)
            self._write_sign_in(made)
            self._remove(ENDED_SESSIONS)  # those of the old key
            return made

    def _write_sign_in(self, made: str) -> None:
        content = {"hash": password.hash_of(made), "key": secrets.token_hex(_KEY_BYTES)}
        self._write(self._path, json.dumps(content))

    def _write(self, path: Path, text: str) -> None:
        try:
            atomic_files.write(path, text.encode())
        except OSError as error:
            raise self._mistake(f"expected to write {path.name} in it ({error.strerror})") from None

    def _remove(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._mistake(f"expected to remove {name} from it ({error.strerror})") from None

    def _parse(self, content: bytes) -> SignIn:
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(content)
            if password.is_hash(found["hash"]) and _KEY.fullmatch(found["key"]) is not None:
                return SignIn(found["hash"], found["key"])
        raise self._mistake(
            f"its file {_NAME} is damaged: expected a hash and a key; `python -m cloud.gallery.admin password --new` "
            "makes them anew"
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                atomic_files.make_folder(self._folder)
                stack.enter_context(atomic_files.locked(self._folder / _LOCK))
            except OSError as error:
                raise self._mistake(f"expected a folder in which files can be written ({error.strerror})") from None
            yield

    def _mistake(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"GALLERY_FOLDER is '{self._folder}': {text}")
