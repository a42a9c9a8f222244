"""The cloud's broker with its real configuration and its authority, on a free port."""

import os
import re
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from cloud.pki.authority import Authority
from cloud.pki.certificates import name_of
from cloud.pki.confirm import Outcome, confirm
from demo.guard import with_guard
from demo.ports import HOST, free_port
from demo.program import ROOT, await_true, find_program
from tests import packets
from tests.builders import Peer
from wire.enrolment.device_bundle import DeviceBundle
from wire.mqtt.tls import TlsFiles


class Cloud:
    """A broker, its authority and two devices."""

    def __init__(self, folder: Path, **limits: float) -> None:
        """Set up a cloud; ``limits`` replace options of the guard in the broker's configuration."""
        self.folder, self.port, self.limits = folder, free_port(), limits
        self.pki = folder / "pki"
        self.log = folder / "broker.log"
        self.authority = Authority(self.pki)
        self.authority.ensure([HOST])
        self.device_1, self.device_2 = self.enroll("jetson-1"), self.enroll("jetson-2")
        """The TLS files of two enrolled devices."""
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *failure: object) -> None:
        self.stop()

    @property
    def config(self) -> Path:
        """A copy of the broker's configuration with other paths and another port."""
        text = (ROOT / "cloud" / "broker" / "mosquitto.conf").read_text()
        text = re.sub(r"^listener .*$", f"listener {self.port} {HOST}", text, count=1, flags=re.MULTILINE)
        path = self.folder / "mosquitto.conf"
        text = with_guard(text, self.limits)
        path.write_text(text.replace("/pki/", f"{self.pki}/") + ("user root\n" if os.geteuid() == 0 else ""))
        return path

    def start(self, *command: str) -> Self:
        """Start the broker as its image does, or with another command."""
        serve = ["sh", str(ROOT / "cloud" / "broker" / "serve.sh")]
        arguments = [str(self.config), str(self.pki / "broker" / "stamp"), find_program("mosquitto")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command or (*serve, *arguments), stdout=log, stderr=log, start_new_session=True
            )
        await_true(self.is_ready, 10, "the cloud's broker answers")
        return self

    def stop(self) -> int:
        """Stop the broker as Docker does, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def is_ready(self) -> bool:
        """Whether the broker accepts a client. As long as it only listens, SIGHUP would kill it."""
        try:
            self.handshake(self.broker_files()).close()
        except OSError:
            return False
        return True

    def enroll(self, name: str, folder: str = "devices", **options: Any) -> TlsFiles:
        """Enroll a device and return its TLS files. The broker reloads within a second or two."""
        return files_of(self.authority.enroll(name, **options), self.folder / folder)

    def sink_files(self) -> TlsFiles:
        """The TLS files of the sink."""
        return TlsFiles(*(self.authority.sink / name for name in ("ca.pem", "cert.pem", "key.pem")))

    def gallery_files(self) -> TlsFiles:
        """The TLS files of the gallery."""
        return TlsFiles(*(self.authority.gallery / name for name in ("ca.pem", "cert.pem", "key.pem")))

    def broker_files(self) -> TlsFiles:
        """The TLS files of the broker, with which its health check connects."""
        return TlsFiles(*(self.authority.broker / name for name in ("ca.pem", "server.pem", "server-key.pem")))

    def revoke(self, name: str, seconds: float = 8) -> Outcome:
        """Revoke a device, and wait until that is in force."""
        return confirm(self.authority, self.authority.revoke(name), HOST, self.port, seconds)[0]

    def peer(self, tls: TlsFiles, *subscriptions: str, **options: Any) -> Peer:
        """A client that connects with ``tls``."""
        return Peer(self.port, *subscriptions, tls=tls, **{"client_id": client_id_of(tls)} | options)

    def handshake(
        self, tls: TlsFiles, version: ssl.TLSVersion | None = None, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        """Connect with TLS and MQTT. The caller closes the connection.

        Raises:
            OSError: the broker refuses the connection.
        """
        context = tls.context()
        client_id = client_id_of(tls)
        if version is not None:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.maximum_version = context.minimum_version = version
        return self.connect(context, session, client_id)

    def connect(self, context: ssl.SSLContext, session: ssl.SSLSession | None, client_id: str) -> ssl.SSLSocket:
        """Connect with a given context. A TLS session can be resumed only in its own context."""
        tcp = socket.create_connection((HOST, self.port), timeout=10)
        try:
            wrapped = context.wrap_socket(tcp, server_hostname=HOST, session=session)
            wrapped.sendall(packets.connect(client_id))
            if wrapped.recv(64)[3:4] != b"\0":  # neither a CONNACK with the reason code 0 nor the end
                raise ConnectionRefusedError("the broker refused the connection")
        except BaseException:
            tcp.close()
            raise
        return wrapped


def client_id_of(tls: TlsFiles) -> str:
    """Return the client id that the broker expects: the name in the certificate."""
    assert tls.cert_file is not None
    return name_of(x509.load_pem_x509_certificate(tls.cert_file.read_bytes()))


def files_of(bundle: DeviceBundle, parent: Path) -> TlsFiles:
    """Write a bundle and return the TLS files in it."""
    folder = bundle.write(parent, HOST)
    return TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
