"""Checks the host that a request is for, against DNS rebinding.

In an attack by DNS rebinding, a foreign page has its own name point to the gallery's address. The browser then counts
its requests as of the same origin, but they name the foreign host.
"""

import re

from cloud.gallery.web.access.fields import Fields, values
from cloud.gallery.web.access.refusal import Refusal

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]{1,5})?")
_MAX_CHARS = 260


class Hosts:
    """The host names under which the gallery is served."""

    def __init__(self, names: str) -> None:
        """``names`` are separated by commas and have no ports."""
        self._names = frozenset(names.lower().split(","))

    def check(self, fields: Fields) -> str:
        """Return the host of a request, in lower case and with its port if it has one.

        Raises:
            Refusal: there is not exactly one host, or the gallery is not served under it.
        """
        hosts = values(fields, "host")
        if len(hosts) != 1:
            raise Refusal(400, f"{len(hosts)} Host headers: expected one")
        host = hosts[0].lower()
        match = _HOST.fullmatch(host) if len(host) <= _MAX_CHARS else None
        if match is None:
            raise Refusal(400, "the Host header is not valid: expected a host name, and a port if it is not the usual")
        if match["name"] not in self._names:
            raise Refusal(421, f"the gallery is not served as {match['name']}: expected a name in GALLERY_HOSTS")
        return host
