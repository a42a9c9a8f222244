"""The gallery under attack: its process, its owner, and connections of an intruder."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from demo.ports import HOST
from demo.program import await_true, listens
from demo.stack import BUCKET, DEVICE, Stack
from wire import keys
from wire.ids import new_id
from wire.topics import Origin

PAGES = ("/", "/devices")
CODE = "<script>alert(1)</script>"
"""Code that must never arrive in a page as such."""
MEGABYTES = 150
"""Maximum memory of the gallery during every intrusion."""


class Gallery:
    """The gallery's process, and its owner, who is signed in."""

    def __init__(self, stack: Stack, **settings: str) -> None:
        """Start it in the stack."""
        self.stack = stack
        self.host = f"{HOST}:{stack.gallery_port}"
        self.address = f"http://{self.host}"
        self.own_headers = {"Origin": self.address, "X-Gallery": "1"}
        self.folder = Path(stack.environ("gallery")["GALLERY_FOLDER"])
        self.start(**settings)
        self.owner = self.client()
        assert self.sign_in(self.owner).status_code == 204

    def start(self, **settings: str) -> None:
        """Start it, once more if it runs, and wait until it answers."""
        if "gallery" in self.stack.programs:
            self.stack.programs["gallery"].stop()
        program = self.stack.start("gallery", **settings)
        await_true(lambda: listens(self.stack.gallery_port) or not program.running, 30, "the gallery answers")
        assert program.running, program.output()

    @property
    def password(self) -> str:
        """The password, which nobody has been shown yet."""
        return (self.folder / "password-to-show").read_text().strip()

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.stack.programs["gallery"].output()

    @property
    def megabytes(self) -> float:
        """Its resident memory."""
        return float(psutil.Process(self.stack.programs["gallery"].pid).memory_info().rss) / 1e6

    def client(self, address: str = HOST, **options: object) -> httpx.Client:
        """A browser at an address of the loopback interface, with the headers of the page's own code."""
        transport = httpx.HTTPTransport(local_address=address, limits=httpx.Limits(max_connections=100))
        client = httpx.Client(base_url=self.address, transport=transport, timeout=60, **options)  # type: ignore[arg-type]
        client.headers.update(self.own_headers)
        return client

    def sign_in(self, client: httpx.Client, password: str | None = None) -> httpx.Response:
        """Try to sign in, with the right password unless another one is given."""
        return client.post("/api/sign-in", json={"password": self.password if password is None else password})

    def with_cookie(self, value: str) -> httpx.Client:
        """A browser with a cookie of a session."""
        return self.client(cookies={"facewire_gallery": value})

    @property
    def cookie(self) -> str:
        """The owner's cookie."""
        return str(self.owner.cookies["facewire_gallery"])

    def raw(self, *heads: str, body: bytes = b"", host: str | None = None, cookie: bool = True) -> bytes:
        """Send a request as it is written here, and return everything that is answered."""
        lines = [*heads]
        if host != "":
            lines.append(f"Host: {host or self.host}")
        if cookie:
            lines.append(f"Cookie: facewire_gallery={self.cookie}")
        request = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body
        with self.connection() as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    @contextmanager
    def connection(self, address: str = HOST) -> Iterator[socket.socket]:
        """A plain connection."""
        source = (address, 0)
        with socket.create_connection((HOST, self.stack.gallery_port), 30, source_address=source) as connection:
            yield connection

    def check_owner(self) -> None:
        """Assert that the owner still sees the gallery, and that it has not grown beyond its memory."""
        assert self.owner.get("/api/state").status_code == 200
        assert self.megabytes < MEGABYTES

    def stored_face(self) -> str:
        """The path of a face of the honest device, without ``.jpg``."""
        await_true(lambda: bool(self.stack.keys(f"faces/device={DEVICE}")), 20, "a face is stored")
        origin, face_id = keys.parse("faces", self.stack.keys(f"faces/device={DEVICE}")[0])
        return f"{origin.device}/{origin.camera}/{face_id}"

    def store(self, content: bytes, content_type: str = "image/jpeg", device: str = "jetson-9", **metadata: str) -> str:
        """Store an object under a valid key, as a stolen key for S3 could. Return its path, without ``.jpg``."""
        origin = Origin(device, "door")
        face_id = new_id(datetime.now(UTC))
        key = keys.of_id("faces", origin, face_id)
        self.stack.s3().put_object(Bucket=BUCKET, Key=key, Body=content, ContentType=content_type, Metadata=metadata)
        return f"{origin.device}/{origin.camera}/{face_id}"


def is_refused(answer: bytes) -> bool:
    """Whether a raw answer is an error, or the connection was closed without one."""
    return answer == b"" or answer.split(b" ", 2)[1][:1] == b"4"


def is_closed_soon(connection: socket.socket, seconds: float) -> bool:
    """Whether the gallery closes a connection within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            if connection.recv(65536) == b"":
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False
