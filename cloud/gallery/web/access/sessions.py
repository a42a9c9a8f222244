"""Sessions: signed cookies that say who has signed in, and when."""

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from cloud.gallery.web.access.ended_sessions import EndedSessions
from cloud.gallery.web.access.sign_in_file import SignInFile

_ID_BYTES = 16
_MAX_CHARS = 500
_SESSION = "facewire gallery session"
_KNOWN_BROWSER = "facewire gallery known browser"


@dataclass(frozen=True, slots=True)
class Session:
    """What a session's cookie says."""

    id: str
    user: str
    issued: int
    """Seconds since 1970."""
    expires: int
    """Seconds since 1970."""


class Sessions:
    """Starts, reads and ends sessions."""

    def __init__(
        self, sign_in: SignInFile, ended: EndedSessions, seconds: int, clock: Callable[[], float] = time.time
    ) -> None:
        """``seconds`` is how long a session is valid."""
        self._sign_in = sign_in
        self._ended = ended
        self.seconds = seconds
        self._clock = clock

    def start(self, user: str) -> str:
        """Return the value of the cookie of a new session."""
        now = int(self._clock())
        session = Session(secrets.token_urlsafe(_ID_BYTES), user, now, now + self.seconds)
        return self._sign(_SESSION, asdict(session))

    def read(self, value: str) -> Session | None:
        """Return the session of a cookie; None if it is not valid, or not any more.

        Raises:
            ConfigurationError: the key of the signature cannot be read.
        """
        with suppress(TypeError, ValueError):
            session = Session(**self._verified(_SESSION, value))
            now = self._clock()
            is_valid = session.issued <= now < min(session.expires, session.issued + self.seconds)
            if is_valid and not self._ended.has(session.id, session.issued):
                return session
        return None

    def end(self, session: Session) -> None:
        """End a session before it expires.

        Raises:
            OSError: it is ended until the process ends only, because the disk is full.
        """
        self._ended.add(session.id, session.issued, session.expires)

    def make_known_browser(self) -> str:
        """Return the value of a cookie for a browser in which somebody has signed in."""
        return self._sign(_KNOWN_BROWSER, {"id": secrets.token_urlsafe(_ID_BYTES)})

    def known_browser(self, value: str) -> str | None:
        """Return the id in the cookie of a known browser; None if it is not valid."""
        with suppress(TypeError, ValueError, KeyError):
            return str(self._verified(_KNOWN_BROWSER, value)["id"])
        return None

    def _sign(self, purpose: str, content: dict[str, Any]) -> str:
        return str(self._serializer(purpose).dumps(content))

    def _verified(self, purpose: str, value: str) -> dict[str, Any]:
        """Return what was signed.

        Raises:
            ValueError: the signature is not valid.
        """
        if len(value) > _MAX_CHARS:
            raise ValueError("too long")
        try:
            return dict(self._serializer(purpose).loads(value))
        except BadData as error:
            raise ValueError(str(error)) from None

    def _serializer(self, purpose: str) -> URLSafeSerializer:
        key = self._sign_in.current().key
        return URLSafeSerializer(
            key, salt=purpose, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )
