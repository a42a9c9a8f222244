"""The exit codes of all processes."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the processes. Values above 2 are those of sysexits.h."""

    OK = 0
    CONFIGURATION = 2
    """A setting is missing or wrong."""
    BAD_DATA = 65
    """A video, a folder of images or a model file exists but cannot be read."""
    NO_INPUT = 66
    """The camera, file or folder does not exist."""
    UNAVAILABLE = 69
    """The S3 bucket does not exist."""
    SOFTWARE = 70
    """A bug in Facewire."""
    CAMERA_HANGS = 74
    """The camera hangs again and again, and only a new process can open it once more."""
    NO_PERMISSION = 77
    """S3 denies access to the bucket, or the credentials are missing or wrong."""
