"""Reads and writes the gallery's cookies."""

from starlette.responses import Response

from cloud.gallery.web.access.fields import Fields, values

_SESSION = "facewire_gallery"
_KNOWN_BROWSER = "facewire_gallery_known"
_KNOWN_SECONDS = 365 * 86_400
_MAX_OF_ONE_NAME = 4


class Cookies:
    """The names and the attributes of the cookies."""

    def __init__(self, *, https: bool) -> None:
        """``https`` is whether browsers reach the gallery with https."""
        prefix = "__Host-" if https else ""
        self._https = https
        self.session = f"{prefix}{_SESSION}"
        self.known_browser = f"{prefix}{_KNOWN_BROWSER}"

    def read(self, fields: Fields, name: str) -> list[str]:
        """Return the values of the cookies with this name. Another page of the same host may have added one."""
        pairs = (pair.strip().partition("=") for value in values(fields, "cookie") for pair in value.split(";"))
        return [value for found, _, value in pairs if found == name][:_MAX_OF_ONE_NAME]

    def write_session(self, response: Response, value: str, seconds: int) -> None:
        """Set the cookie of a session."""
        self._write(response, self.session, value, seconds)

    def write_known_browser(self, response: Response, value: str) -> None:
        """Set the cookie of a browser in which somebody has signed in."""
        self._write(response, self.known_browser, value, _KNOWN_SECONDS)

    def remove_session(self, response: Response) -> None:
        """Remove the cookie of a session."""
        self._write(response, self.session, "", 0)

    def _write(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._https, httponly=True, samesite="strict"
        )
