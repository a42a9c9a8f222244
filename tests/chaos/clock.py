"""Wrong clocks of devices."""

import os
import shutil
import sys
from datetime import UTC, datetime


def seconds_to_1970() -> float:
    """Return the error of a clock that shows the first minutes of 1970."""
    return 60 - datetime.now(UTC).timestamp()


def is_available() -> bool:
    """Return whether clocks can be set wrong. In CI they must be: then the answer is always yes."""
    return bool(os.environ.get("CI")) or (sys.platform == "linux" and shutil.which("cc") is not None)
