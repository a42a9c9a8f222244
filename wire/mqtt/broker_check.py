"""Tries to connect to a broker."""

import os

from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Connection
from wire.mqtt.endpoint import Endpoint

_CLOSE_SECONDS = 1.0


def connect_once(endpoint: Endpoint, client_id: str) -> None:
    """Connect to a broker and disconnect.

    Raises:
        FacewireError: the broker cannot be reached, or refuses the connection.
    """
    connection = Connection(endpoint, ConnectOptions(client_id), lambda message: None)
    connection.open([])
    connection.close(_CLOSE_SECONDS)


def try_broker(endpoint: Endpoint, name: str | None = None) -> str:
    """Connect to a broker, disconnect, and return a line that says so, for ``--check``.

    ``name`` is that in the certificate, if there is one: the cloud's broker accepts no other client id. A running
    client with the same certificate stays connected.

    Raises:
        FacewireError: the broker cannot be reached, or refuses the connection.
    """
    connect_once(endpoint, f"facewire-check-{name or os.getpid()}")
    return f"connected to {endpoint}"
