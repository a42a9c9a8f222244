"""The gallery's own files for the browser: modules, styles and the icon.

Their address contains a hash of all of them, ``/static/<version>/faces.js``, so that a browser keeps them, and loads
modules that import each other from the same version.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    plain: bytes
    packed: bytes
    media_type: str


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    return _File(plain, gzip.compress(plain, mtime=0), TYPES[path.suffix])


_FILES = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
VERSION = hashlib.sha256(b"".join(name.encode() + file.plain for name, file in _FILES.items())).hexdigest()[:12]
_IMPORT = re.compile(rb'^import .* from "\./([a-z_]+\.js)";$', re.MULTILINE)


def url_of(name: str) -> str:
    """Return the address of a file.

    Raises:
        KeyError: there is no such file.
    """
    _FILES[name]
    return f"/static/{VERSION}/{name}"


def modules_of(name: str) -> list[str]:
    """Return a module and those that it imports, directly or not, so that a page can load them at once."""
    found = [name]
    for module in found:  # it grows meanwhile
        imported = (match.decode() for match in _IMPORT.findall(_FILES[module].plain))
        found += [one for one in dict.fromkeys(imported) if one not in found]
    return found


async def serve(request: Request) -> Response:
    """Serve ``/static/<version>/<name>``. A file of another version is served, but not kept by the browser."""
    file = _FILES.get(request.path_params["name"])
    if file is None:
        return Response(status_code=404)
    headers = {
        "Cache-Control": FOREVER if request.path_params["version"] == VERSION else "no-cache",
        "Vary": "Accept-Encoding",
    }
    body = file.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = file.packed, "gzip"
    return Response(body, media_type=file.media_type, headers=headers)
