"""Decides which header fields of a reverse proxy to trust: those of a request that also has the shared secret."""

import hmac
import ipaddress

from starlette.types import Scope

from cloud.gallery.web.access.fields import only, values

SECRET_HEADER = "X-Gallery-Secret"  # noqa: S105 (a name)
_MAX_USER_CHARS = 256
_IPV6_NETWORK_BITS = 64
"""Somebody with one IPv6 address usually has a whole network of this size."""


class Proxy:
    """The reverse proxy in front of the gallery, if there is one that shares a secret with it."""

    def __init__(self, header: str | None, secret: str | None) -> None:
        """``header`` is the one in which it names the user that it has authenticated; None if it does not."""
        self.header = header
        self._secret = None if secret is None else secret.encode()

    def has_sent(self, scope: Scope) -> bool:
        """Whether a request comes from the proxy: it has the secret, once."""
        secret = only(scope["headers"], SECRET_HEADER)
        return (
            self._secret is not None
            and secret is not None
            and hmac.compare_digest(secret.encode("utf-8", "replace"), self._secret)
        )

    def user(self, scope: Scope) -> str | None:
        """Return the user that the proxy has authenticated; None if it has not, or the request is not from it."""
        if self.header is None or not self.has_sent(scope):
            return None
        user = only(scope["headers"], self.header)
        return user if user and len(user) <= _MAX_USER_CHARS and user.isprintable() else None

    def client(self, scope: Scope) -> str:
        """Return the address of the client, or the network if it is IPv6, to count its attempts to sign in.

        It is that of the connection. The last one in X-Forwarded-For counts only in a request from the proxy.
        """
        address = scope["client"][0] if scope.get("client") else "unknown"
        forwarded = values(scope["headers"], "x-forwarded-for")
        if forwarded and self.has_sent(scope):
            address = forwarded[-1].rpartition(",")[2].strip()
        return _network(address)

    def hide(self, scope: Scope) -> None:
        """Remove the secret and the user's name from the header fields, so that nothing can log or show them."""
        hidden = {SECRET_HEADER.lower().encode(), (self.header or SECRET_HEADER).lower().encode()}
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in hidden]


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK_BITS), strict=False))
