"""The authority and the enrolment service as processes, and devices or intruders that talk to them."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import psutil

from cloud.pki import joining
from cloud.pki.authority import Authority
from demo.ports import HOST, free_port
from demo.program import ROOT, await_true, listens
from demo.stack import Stack
from wire.enrolment.code import Code
from wire.enrolment.messages import MAX_LINE_BYTES, Answer, Greeting, Request

TALK_SECONDS = 20.0
_UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


class Office:
    """The authority of a stack and its enrolment service."""

    def __init__(self, stack: Stack) -> None:
        """Start both, and wait until they answer."""
        self.stack, self.authority, self.port = stack, stack.authority, stack.enrolment_port
        stack.start("pki")
        await_true(lambda: "starting" in stack.programs["pki"].output(), 20, "the authority has started")
        await_true(self._socket_answers, 20, "the authority answers")
        stack.start("enrolment")
        await_true(lambda: "starting" in stack.programs["enrolment"].output(), 20, "the service has started")

    def code(self, device: str) -> Code:
        """Make a code, and wait until the service listens."""
        code = joining.make_codes(self.authority, [device], 15, 365)[device]
        await_true(lambda: listens(self.port), 10, "the service listens")
        return code

    def join(self, code: Code | str, folder: Path, **options: str) -> "subprocess.CompletedProcess[str]":
        """Run the command of a device."""
        folder.mkdir(exist_ok=True)
        return join(HOST, self.port, code, folder, **options)

    def ask(self, line: bytes, address: str = HOST) -> Answer | None:
        """Send a line as a device does, from an address. Return the answer; None if the connection was closed."""
        with contextlib.suppress(OSError):
            return talk(self.port, line, address)
        return None

    def ask_authority(self, line: bytes) -> Answer:
        """Send a line to the authority's own socket, as a service could that an intruder has taken over."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TALK_SECONDS)
            connection.connect(str(self.authority.enrolment.socket))
            connection.sendall(line)
            return Answer.decode(connection.makefile("rb").readline())

    @property
    def megabytes(self) -> float:
        """The resident memory of the service."""
        return float(psutil.Process(self.stack.programs["enrolment"].pid).memory_info().rss) / 1e6

    def issued_to(self, device: str) -> int:
        """How many certificates a device has been issued."""
        return sum(issued.device == device for issued in self.authority.issued())

    def _socket_answers(self) -> bool:
        try:
            self.ask_authority(b"\n")
        except OSError:
            return False
        return True


class Listener:
    """A TLS server of an intruder, which greets as the enrolment service does, and records what it is sent."""

    def __init__(self, tls: Authority, shown: Authority) -> None:
        """Listen with the certificate of one authority's service, and show the certificate of any authority."""
        self.received = b""
        self.connections = 0
        self.port = free_port()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls.enrolment.certificate, tls.enrolment.key)
        self._greeting = Greeting(authority=shown.enrolment.ca.read_text()).encode()
        self._server = socket.create_server((HOST, self.port))
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _work(self) -> None:
        while True:
            try:
                plain, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            plain.settimeout(TALK_SECONDS)
            with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as connection:
                connection.sendall(self._greeting)
                while part := connection.recv(MAX_LINE_BYTES):
                    self.received += part


def join(host: str, port: int, code: Code | str, folder: Path, **options: str) -> "subprocess.CompletedProcess[str]":
    """Run the command of a device until it ends."""
    typed = code if isinstance(code, str) else code.text()
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.run(
        [sys.executable, "-m", "edge.forwarder.join", "--port", str(port), "--to", str(folder), *words, host, typed],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def connect(port: int, address: str = HOST) -> ssl.SSLSocket:
    """Connect to the service from an address, without checking who it is. The caller closes the connection."""
    plain = socket.create_connection((HOST, port), TALK_SECONDS, source_address=(address, 0))
    try:
        return _UNVERIFIED.wrap_socket(plain)
    except BaseException:
        plain.close()
        raise


def talk(port: int, line: bytes, address: str = HOST) -> Answer | None:
    """Send a line to the service. Return its answer; None if it closed the connection without one.

    Raises:
        OSError: it reset the connection.
    """
    with connect(port, address) as connection, connection.makefile("rwb") as stream:
        stream.readline()
        stream.write(line)
        stream.flush()
        answer = stream.readline()
    return Answer.decode(answer) if answer else None


def send_and_go(port: int, request: Request) -> None:
    """Send a request, and cut the connection without reading the answer."""
    with connect(port) as connection, connection.makefile("rwb") as stream:
        stream.readline()
        stream.write(request.encode())
        stream.flush()
