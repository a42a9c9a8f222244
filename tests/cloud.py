"""The cloud's broker with its real configuration and its authority, on a free port."""

import os
import re
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any, Self

from cloud.pki.authority import Authority
from cloud.pki.device_bundle import DeviceBundle
from cloud.pki.disconnect import Outcome, disconnect
from demo.ports import HOST, free_port
from demo.program import ROOT, await_true, find_program
from tests.builders import Peer
from wire.mqtt.tls import TlsFiles


class Cloud:
    """A broker, its authority and two devices."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
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

    def broker_files(self) -> TlsFiles:
        """The TLS files of the broker, with which its health check connects."""
        return TlsFiles(*(self.authority.broker / name for name in ("ca.pem", "server.pem", "server-key.pem")))

    def revoke(self, name: str, seconds: float = 8) -> Outcome:
        """Revoke a device and disconnect it."""
        return disconnect(self.authority.revoke(name), HOST, self.port, seconds)[0]

    def peer(self, tls: TlsFiles, *subscriptions: str, **options: Any) -> Peer:
        """A client that connects with ``tls``."""
        return Peer(self.port, *subscriptions, tls=tls, **options)

    def handshake(
        self, tls: TlsFiles, version: ssl.TLSVersion | None = None, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        """Connect with TLS and MQTT. The caller closes the connection.

        Raises:
            OSError: the broker refuses the connection.
        """
        context = tls.context()
        if version is not None:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.maximum_version = context.minimum_version = version
        return self.connect(context, session)

    def connect(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """Connect with a given context. A TLS session can be resumed only in its own context."""
        tcp = socket.create_connection((HOST, self.port), timeout=10)
        try:
            wrapped = context.wrap_socket(tcp, server_hostname=HOST, session=session)
            wrapped.sendall(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01x")
            assert wrapped.recv(64)[:1] == b"\x20"
        except BaseException:
            tcp.close()
            raise
        return wrapped


def files_of(bundle: DeviceBundle, parent: Path) -> TlsFiles:
    """Write a bundle and return the TLS files in it."""
    folder = bundle.write(parent, HOST)
    return TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
