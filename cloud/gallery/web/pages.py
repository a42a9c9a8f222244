"""The pages. They contain no faces: their modules load them."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cloud.gallery.web import static_files
from cloud.gallery.web.shown import Shown

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
_TEMPLATES.globals["static"] = static_files.url_of
_TEMPLATES.globals["modules"] = static_files.modules_of("faces.js")


class Pages:
    """Renders the pages."""

    def __init__(self, gallery: Shown) -> None:
        settings = gallery.settings
        self._values: dict[str, Any] = {
            "time_zone": settings.gallery_time_zone,
            "may_delete": settings.gallery_delete,
            "has_sign_out": settings.gallery_trusted_header is None,
        }

    async def faces(self, request: Request) -> Response:
        """Render the page of faces. Its filters are read from the address in the browser."""
        return self._render("faces.html")

    async def devices(self, request: Request) -> Response:
        """Render the page of devices."""
        return self._render("devices.html")

    def not_found(self) -> Response:
        """Render the page for an address that does not exist."""
        return self._render("not_found.html", 404)

    def _render(self, template: str, status: int = 200) -> Response:
        return HTMLResponse(
            _TEMPLATES.get_template(template).render(self._values), status, headers={"Cache-Control": "no-store"}
        )
