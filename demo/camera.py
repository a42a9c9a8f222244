"""A network camera for tests: serves pictures as motion JPEG over HTTP, in real time, and can be made to fail."""

import itertools
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


class NetworkCamera:
    """Serves pictures in a loop at a steady rate. A client that connects gets the picture that is next."""

    def __init__(self, jpegs: Sequence[bytes], frames_per_second: float) -> None:
        """Set up a camera on a free port; it serves while its context is entered.

        Args:
            jpegs: the pictures, in order.
            frames_per_second: the rate at which each client gets pictures.
        """
        self.flowing = threading.Event()
        """Cleared: the camera hangs and keeps its connections open."""
        self.flowing.set()
        self.hang_up = False
        """True: the camera closes every connection."""
        self.connections = 0
        self.sent = 0
        """Number of pictures sent so far."""
        self._pictures = itertools.cycle(jpegs)
        self._interval_seconds = 1 / frames_per_second
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = f"http://{HOST}:{self._server.server_port}/stream.mjpg"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up = True
        self.flowing.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                pace = threading.Event()
                while not camera.hang_up:
                    camera.flowing.wait()
                    jpeg = next(camera._pictures)
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                    try:
                        self.wfile.write(head + jpeg + b"\r\n")
                    except OSError:
                        return
                    camera.sent += 1
                    pace.wait(camera._interval_seconds)

            def log_message(self, *args: object) -> None:
                """Log nothing."""

        return Handler
