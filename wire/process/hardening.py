"""What every process gives up at its start: files that other users can read, and dumps of its memory."""

import contextlib
import ctypes
import os
import resource
import sys

_PRIVATE_UMASK = 0o077
_PR_SET_DUMPABLE = 4
"""From ``linux/prctl.h``."""


def harden() -> None:
    """Let new files and folders be accessible only by their owner, and switch off core dumps.

    A dump has faces, passwords and keys. The limit of its size is ignored where dumps are piped to a program, as by
    systemd-coredump, so on Linux the process also says that it must not be dumped. Then other processes of the same
    user cannot read its memory either.
    """
    os.umask(_PRIVATE_UMASK)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
