"""Tries to connect to a broker."""

import os

from wire.errors import Refused
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Connection
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.reason_codes import NO_SHARED_SUBSCRIPTIONS

_CLOSE_SECONDS = 1.0


def connect_once(endpoint: Endpoint, client_id: str, *, is_shared: bool = False) -> None:
    """Connect to a broker and disconnect. ``is_shared``: it must have shared subscriptions.

    Raises:
        FacewireError: the broker cannot be reached, refuses the connection, or has no shared subscriptions.
    """
    connection = Connection(endpoint, ConnectOptions(client_id), lambda message: None)
    connection.open([])
    connection.close(_CLOSE_SECONDS)
    if is_shared and not connection.granted.has_shared:
        raise Refused(NO_SHARED_SUBSCRIPTIONS, "the broker has no shared subscriptions")


def try_broker(endpoint: Endpoint, name: str | None = None, *, is_shared: bool = False) -> str:
    """Connect to a broker, disconnect, and return a line that says so, for ``--check``.

    ``name`` begins with that in the certificate, if there is one: the cloud's broker accepts no other client id. A
    running client with the same certificate stays connected. ``is_shared``: the broker must have shared subscriptions.

    Raises:
        FacewireError: the broker cannot be reached, or refuses the connection.
    """
    connect_once(endpoint, f"facewire-check-{name or os.getpid()}", is_shared=is_shared)
    return f"connected to {endpoint}"
