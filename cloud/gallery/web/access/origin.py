"""Decides from which pages a request may come, against cross-site request forgery.

Source: OWASP's «Cross-Site Request Forgery Prevention Cheat Sheet», and the W3C's «Fetch Metadata Request Headers».
"""

from starlette.types import Scope

from cloud.gallery.web.access.fields import only, values
from cloud.gallery.web.access.limits import SAFE_METHODS
from cloud.gallery.web.access.refusal import Refusal

OWN_HEADER = "X-Gallery"
"""Header with the value 1 that every changing request has. A form of a foreign page cannot send it."""


def check(scope: Scope, host: str, *, https: bool) -> None:
    """Check that a request does not come from a foreign page.

    Args:
        scope: of the request.
        host: the request's host, which has been checked.
        https: whether browsers reach the gallery with https.

    Raises:
        Refusal: the request comes from a foreign page, or a changing request does not say where it comes from.
    """
    fields = scope["headers"]
    site = only(fields, "sec-fetch-site") if values(fields, "sec-fetch-site") else "none"
    if scope["method"] in SAFE_METHODS:
        is_link = only(fields, "sec-fetch-mode") == "navigate" and only(fields, "sec-fetch-dest") == "document"
        if site not in ("none", "same-origin") and not is_link:
            raise Refusal(403, "the request comes from a foreign page")
        return
    if only(fields, "origin") != f"{'https' if https else 'http'}://{host}":
        raise Refusal(403, "the request comes from a foreign page, or GALLERY_HTTPS is wrong: expected its own Origin")
    if site not in ("none", "same-origin"):
        raise Refusal(403, "the request comes from a foreign page")
    if only(fields, OWN_HEADER) != "1":
        raise Refusal(403, f"the request has no header {OWN_HEADER}: expected the value 1")
