"""The stand-in: a TLS server that speaks as AWS IoT Core does, and passes on to Mosquitto what is allowed.

with StandIn(folder, broker_port=..., client_ca=..., policies={"sink.facewire": "sink"}) as core:
    ...                       # clients connect to localhost, core.port
    core.counts["jetson-1"].discarded

What Mosquitto does by itself, such as sessions and shared subscriptions, stays with it.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from cloud.pki.authority import Authority
from cloud.pki.certificates import name_of
from demo.ports import HOST
from tests.chaos.listener import End, Listener
from tests.iot_core import limits
from tests.iot_core.connection import CoreConnection
from tests.iot_core.meter import Counts
from tests.iot_core.policy import Principal

SERVER_NAME = "localhost"
"""The name that clients must send in the handshake (SNI). There is none for an address."""


class StandIn(Listener):
    """Listens as port 8883 of AWS IoT Core, or as port 443, where clients must ask for its protocol by ALPN."""

    def __init__(
        self,
        folder: Path,
        *,
        broker_port: int,
        client_ca: Path,
        policies: Mapping[str, str],
        needs_alpn: bool = False,
    ) -> None:
        """Set up the stand-in; :meth:`start` listens.

        Args:
            folder: for the authority that signs its own certificate.
            broker_port: of a broker without TLS and authentication.
            client_ca: the authority of the clients' certificates, which is registered.
            policies: policy of each name in a certificate; all others have that of a device.
            needs_alpn: whether a client must ask for the protocol.
        """
        super().__init__(broker_port)
        authority = Authority(folder)
        authority.ensure([SERVER_NAME])
        self.ca_file = authority.broker / "ca.pem"
        """What clients have to trust."""
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_cert_chain(authority.broker / "server.pem", authority.broker / "server-key.pem")
        self._context.set_alpn_protocols([limits.ALPN])
        self._context.sni_callback = self._check_name
        self._policies, self._needs_alpn = policies, needs_alpn
        self.counts: defaultdict[str, Counts] = defaultdict(Counts)
        """What was counted, by client id."""
        self.handshakes_refused = 0
        self.connected_at: dict[str, float] = {}
        """When each client id has connected last."""

    async def listen(self) -> None:
        """Accept connections with TLS."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, HOST, self.port, ssl=self._context, limit=2 * limits.PACKET_BYTES
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def serve(self, client: End) -> None:
        """Serve one connection until it ends."""
        tls: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
        if self._needs_alpn and tls.selected_alpn_protocol() != limits.ALPN:
            self.handshakes_refused += 1
            return
        certificate = tls.getpeercert(binary_form=True)
        assert certificate is not None
        name = name_of(x509.load_der_x509_certificate(certificate))
        await CoreConnection(
            client,
            lambda client_id: Principal(self._policies.get(name, "device"), name, client_id),
            self.counts,
            self.connected_at,
            self.target_port,
        ).run()

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected. Then everything is counted."""
        return not self._tasks

    def _check_name(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        if name == SERVER_NAME:
            return None
        self.handshakes_refused += 1
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
