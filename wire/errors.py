"""Exceptions, grouped by who has to act.

FacewireError
├── ConfigurationError   the operator: a wrong setting, or a missing model file, camera or bucket
├── LinkLost             the network: the connection ended before the peer answered
│   └── NotTrusted       a certificate: one side rejected the certificate of the other
├── Refused              the peer: it answered with an error
└── BadMessage           the sender: the message does not follow the contract
    └── DamagedMessage   the way: the payload has changed since the face was made
"""

from wire.exit_codes import ExitCode


class FacewireError(Exception):
    """Base class of all errors that Facewire raises itself."""


class ConfigurationError(FacewireError):
    """The configuration is wrong. The message is for the operator, with one line per mistake."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.CONFIGURATION) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LinkLost(FacewireError):
    """The connection ended before the peer answered, so the message may or may not have arrived."""


class NotTrusted(LinkLost):
    """One side rejected the certificate of the other. The message says which side, and why."""


class Refused(FacewireError):
    """The peer answered with an MQTT 5 reason code of 0x80 or more."""

    def __init__(self, reason_code: int, reason: str) -> None:
        super().__init__(f"{reason} (0x{reason_code:02x})")
        self.reason_code = reason_code
        self.reason = reason


class BadMessage(FacewireError):
    """A message does not follow the contract. The text names the part that is wrong."""


class DamagedMessage(BadMessage):
    """The payload does not have the SHA-256 that the message gives, so it has changed since the face was made."""
