"""The gallery's settings."""

from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cloud.bucket_settings import BucketSettings
from wire.mqtt.broker_settings import CloudBrokerSettings
from wire.process.settings import Expected, Host, Port, Secret, Settings, Switch

MIN_SECRET_CHARS = 32


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError) as error:
        raise ValueError(str(error)) from None
    return name


Hosts = Annotated[
    str,
    StringConstraints(pattern=r"^[^\s,/]+(,[^\s,/]+)*$"),
    Expected("host names separated by commas, such as gallery.example.com"),
]
Header = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$"),
    Expected("the name of an HTTP header, such as X-Forwarded-User"),
]
Zone = Annotated[str, AfterValidator(_zone), Expected("a time zone such as Europe/Berlin")]


class FolderSettings(Settings):
    """Where the gallery keeps its files."""

    gallery_folder: Annotated[Path, Expected("a path")] = Path("/var/lib/facewire/gallery")
    """Folder of the index, and of what sign-in needs."""


class GallerySettings(FolderSettings, BucketSettings, CloudBrokerSettings):
    """The gallery's settings."""

    gallery_host: Host = "127.0.0.1"
    """Address on which the gallery is served. In the image it is 0.0.0.0."""
    gallery_port: Port = 8080
    """Port on which the gallery is served."""
    gallery_hosts: Hosts = "localhost,127.0.0.1,[::1]"
    """Host names under which browsers reach the gallery, without ports, separated by commas. A request for another
    host is refused."""
    gallery_https: Switch = False
    """Whether browsers reach the gallery with https, through a reverse proxy. The cookie then requires
    https."""
    gallery_delete: Switch = False
    """Whether faces may be deleted. It requires a policy that allows deletion."""
    gallery_session_hours: Annotated[float, Field(ge=0.1, le=8760), Expected("hours, from 0.1 to 8760")] = 168.0
    """How long a sign-in is valid, in hours."""
    gallery_trusted_header: Header | None = None
    """Header in which a reverse proxy names the user that it has authenticated. Default: users sign in with the
    password."""
    gallery_trusted_secret: Secret | None = None
    """Secret that the reverse proxy sends in the header X-Gallery-Secret, at least 32 characters. Required with
    GALLERY_TRUSTED_HEADER. Without that header, it makes attempts to sign in count per address in X-Forwarded-For."""
    gallery_time_zone: Zone = "UTC"
    """Time zone of the days and times on the page."""
    gallery_fill_per_second: Annotated[float, Field(ge=1, le=10_000), Expected("requests from 1 to 10000")] = 100.0
    """Maximum number of requests per second for metadata of objects that the sink has not announced."""

    @model_validator(mode="after")
    def _header_requires_a_secret(self) -> Self:
        if self.gallery_trusted_header is not None and self.gallery_trusted_secret is None:
            raise ValueError("GALLERY_TRUSTED_HEADER is set: expected GALLERY_TRUSTED_SECRET to be set, too")
        secret = self.gallery_trusted_secret
        if secret is not None and len(secret.get_secret_value()) < MIN_SECRET_CHARS:
            raise ValueError(f"GALLERY_TRUSTED_SECRET is too short: expected {MIN_SECRET_CHARS} characters or more")
        return self
