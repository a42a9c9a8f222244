"""The endpoint of a broker: address, TLS and credentials."""

from dataclasses import dataclass, field

from wire.mqtt.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Everything that is needed to reach one broker."""

    name: str
    """The broker's name in log messages."""
    host: str
    port: int
    tls: TlsFiles | None = None
    """None: plain TCP."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
