"""Checks the target of a request: its path and its query, before anything else reads them."""

import re

from starlette.types import Scope

from cloud.gallery.web.access.refusal import Refusal

_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
"""The characters of all paths of the gallery. Names and ids need no others, so none has to be decoded."""
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_ENCODED_CONTROL = re.compile(r"%(?![2-9a-f][0-9a-f])|%7f", re.IGNORECASE)
_MAX_PATH_CHARS = 300
_MAX_QUERY_CHARS = 2000


def check(scope: Scope) -> None:
    """Check the target of a request.

    Raises:
        Refusal: no path of the gallery looks like that.
    """
    path = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    if len(path) > _MAX_PATH_CHARS or len(query) > _MAX_QUERY_CHARS:
        raise Refusal(414, f"the address is too long: expected at most {_MAX_QUERY_CHARS} characters in the query")
    if _PATH.fullmatch(path) is None:
        raise Refusal(400, "the path is not valid: expected letters, digits, '/', '-', '.', '_' and '~'")
    if not _is_plain(path):
        raise Refusal(400, "the path is not valid: expected no '//', '/./' and '/../'")
    if _QUERY.fullmatch(query) is None or _ENCODED_CONTROL.search(query) is not None:
        raise Refusal(400, "the query is not valid: expected no control characters, and '%' only before two hex digits")


def is_page(path: str) -> bool:
    """Whether somebody who is not signed in is led to the sign-in page, instead of getting an error."""
    return not path.startswith(("/api/", "/faces/", "/static/"))


def safe_next(text: str) -> str:
    """Return where to go after sign-in: ``text`` if it is a path and a query of the gallery itself, otherwise ``/``."""
    path, _, query = text.partition("?")
    is_own = (
        _PATH.fullmatch(path) is not None
        and _is_plain(path)
        and is_page(path)
        and path != "/sign-in"
        and len(text) <= _MAX_QUERY_CHARS
        and _QUERY.fullmatch(query) is not None
    )
    return text if is_own else "/"


def _is_plain(path: str) -> bool:
    return "//" not in path and not any(part in (".", "..") for part in path.split("/"))
