"""Errors, told apart by who is to blame, and the exit codes that they end a process with.

FacewireError
├── ConfigurationError   the operator: a setting, a model file, a camera, a bucket that is not there
├── LinkLost             the network: the other side went away before it answered
│   └── NotTrusted       either side's certificate: the other one does not take it
├── Refused              the peer: it answered, and said no
└── BadMessage           the sender: what arrived is not what the contract says
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a process ended. Values above 2 are those of sysexits.h."""

    OK = 0
    CONFIGURATION = 2
    """A setting is missing or wrong."""
    BAD_DATA = 65
    """A video, a folder of images or a model file is there but cannot be read."""
    NO_INPUT = 66
    """There is no such camera, file or folder."""
    UNAVAILABLE = 69
    """There is no such S3 bucket."""
    SOFTWARE = 70
    """A defect of Facewire itself."""
    NO_PERMISSION = 77
    """S3 denies access to the bucket, or the credentials are missing or wrong."""


class FacewireError(Exception):
    """Any error that Facewire raises on purpose."""


class ConfigurationError(FacewireError):
    """What the operator has set up cannot work; the message is for the operator, one line per mistake."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.CONFIGURATION) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LinkLost(FacewireError):
    """The link went away before the peer answered: the message may or may not have arrived."""


class NotTrusted(LinkLost):
    """One side does not take the other's certificate; the message says which, and why."""


class Refused(FacewireError):
    """The peer answered with an MQTT 5 reason code of 0x80 or more."""

    def __init__(self, reason_code: int, reason: str) -> None:
        super().__init__(f"{reason} (0x{reason_code:02x})")
        self.reason_code = reason_code
        self.reason = reason


class BadMessage(FacewireError):
    """What arrived is not what the contract says; the message names the part at fault."""
