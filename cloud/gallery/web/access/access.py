"""Who may look: what the guard and the sign-in page share."""

from dataclasses import dataclass
from typing import Self

from starlette.types import Scope

from cloud.gallery.settings import GallerySettings
from cloud.gallery.web.access.attempts import Attempts
from cloud.gallery.web.access.cookies import Cookies
from cloud.gallery.web.access.ended_sessions import EndedSessions
from cloud.gallery.web.access.hosts import Hosts
from cloud.gallery.web.access.limits import Streams
from cloud.gallery.web.access.proxy import Proxy
from cloud.gallery.web.access.sessions import Session, Sessions
from cloud.gallery.web.access.sign_in_file import SignInFile
from wire.process.settings import reveal

OWNER = "owner"
"""Name of the user who has signed in with the password."""


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that decides about a request."""

    https: bool
    hosts: Hosts
    proxy: Proxy
    cookies: Cookies
    sign_in: SignInFile
    sessions: Sessions
    attempts: Attempts
    streams: Streams

    @classmethod
    def from_settings(cls, settings: GallerySettings) -> Self:
        """Set up access, and make the password at the first start.

        Raises:
            ConfigurationError: the files in the folder cannot be read or written.
        """
        sign_in = SignInFile(settings.gallery_folder)
        if settings.gallery_trusted_header is None:
            sign_in.ensure()
        ended = EndedSessions(settings.gallery_folder)
        return cls(
            https=settings.gallery_https,
            hosts=Hosts(settings.gallery_hosts),
            proxy=Proxy(settings.gallery_trusted_header, reveal(settings.gallery_trusted_secret)),
            cookies=Cookies(https=settings.gallery_https),
            sign_in=sign_in,
            sessions=Sessions(sign_in, ended, int(settings.gallery_session_hours * 3600)),
            attempts=Attempts(),
            streams=Streams(),
        )

    @property
    def is_by_password(self) -> bool:
        """Whether users sign in with the password, and not at a reverse proxy."""
        return self.proxy.header is None

    def session(self, scope: Scope) -> Session | None:
        """Return the valid session of a request, if there is one.

        Raises:
            ConfigurationError: the key of the signature cannot be read.
        """
        if self.is_by_password:
            for value in self.cookies.read(scope["headers"], self.cookies.session):
                if (session := self.sessions.read(value)) is not None:
                    return session
        return None

    def user(self, scope: Scope) -> str | None:
        """Return the name of the user who sends a request; None if nobody is signed in.

        Raises:
            ConfigurationError: the key of the signature cannot be read.
        """
        session = self.session(scope)
        return self.proxy.user(scope) if session is None else session.user

    def client(self, scope: Scope) -> tuple[str, bool]:
        """Return whose attempts to sign in are counted together, and whether it is a browser known from a sign-in."""
        for value in self.cookies.read(scope["headers"], self.cookies.known_browser):
            if (browser := self.sessions.known_browser(value)) is not None:
                return f"browser {browser}", True
        return self.proxy.client(scope), False
