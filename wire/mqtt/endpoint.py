"""The endpoint of a broker: address, TLS and credentials."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from wire.errors import ConfigurationError
from wire.mqtt.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class Account:
    """A user name and a password."""

    username: str
    password: str | None = field(default=None, repr=False)
    is_own: bool = False
    """Whether the broker has made it for this process alone."""

    def client_id(self, name: str) -> str:
        """Return the client id of a process with this account.

        A broker ends a connection when another client connects with the same id. The id of an own account is derived
        from the password, so that a client without the password cannot do that.
        """
        return f"{name}-{sha256(f'{name}:{self.password}'.encode()).hexdigest()[:16]}" if self.is_own else name


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
    account_file: Path | None = None
    """File with an account that the broker has made: one line ``NAME:PASSWORD``. Not used if ``username`` is given."""
    max_messages_per_second: float | None = None
    """Maximum number of messages published per second on one connection; None: unlimited."""
    max_bytes_per_second: float | None = None
    """Maximum number of bytes published per second on one connection; None: unlimited."""

    def account(self) -> Account | None:
        """Return the account for the next connection; None: none is used. The file may have changed since the last one.

        Raises:
            ConfigurationError: the file cannot be read, or has no account.
        """
        if self.username is not None:
            return Account(self.username, self.password)
        if self.account_file is None:
            return None
        try:
            line = self.account_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"no account: {error}") from None
        username, colon, password = line.partition(":")
        if not (username and colon and password):
            raise ConfigurationError(f"no account: expected a line NAME:PASSWORD in '{self.account_file}'")
        return Account(username, password, is_own=True)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
