"""Text of unknown origin in one line, for a log or a terminal.

Whoever sends a message or runs a server chooses some of the text that is logged. So credentials are starred, long text
is cut, and characters that would begin a new line, move the cursor, or change the order of what is shown are escaped.
"""

from collections.abc import Iterable

from wire.process.credentials import without_credentials

MAX_BYTES = 300
"""Maximum size of a text in a log line, in UTF-8."""
_MAX_LIST_BYTES = 2000
"""Maximum size of a list in a log line, all its items together."""
_MAX_READ_CHARACTERS = 2048
"""Longer text is cut before anything else is done with it."""
_MAX_TRACEBACK_LINES = 60
_INDENT = "    "


def one_line(text: str, max_bytes: int = MAX_BYTES) -> str:
    """Return a text without credentials and control characters. If it is cut, its end says how much is missing."""
    return _cut(escape(without_credentials(text[:_MAX_READ_CHARACTERS])), max_bytes, len(text) - _MAX_READ_CHARACTERS)


def quoted(text: str) -> str:
    """Return a text in quotes, for a message to the operator, without credentials and control characters."""
    starred = without_credentials(text[:_MAX_READ_CHARACTERS])
    return repr(_cut(starred, MAX_BYTES, len(text) - _MAX_READ_CHARACTERS))


def escape(text: str) -> str:
    """Escape every character that is not printable, such as ESC, a line break, or a right-to-left override."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def loggable(value: object) -> object:
    """Return the value of a field of a log line, with its texts in one line, and not too large."""
    match value:
        case None | bool() | int() | float():
            return value
        case dict():
            return _items(f"{key}: {item}" for key, item in value.items())
        case list() | tuple() | set() | frozenset():
            return _items(value)
    return one_line(str(value))


def indented_traceback(text: str) -> str:
    """Return a traceback whose lines cannot be taken for lines of the log. The middle of a long one is left out."""
    lines = text.splitlines()
    missing = len(lines) - _MAX_TRACEBACK_LINES
    if missing > 0:
        half = _MAX_TRACEBACK_LINES // 2
        lines = [*lines[:half], f"... ({missing} more lines)", *lines[-half:]]
    return "\n".join(_INDENT + one_line(line) for line in lines)


def _items(values: Iterable[object]) -> list[object]:
    """Return the first items of a list. If it is cut, its last item says how many are missing."""
    left = _MAX_LIST_BYTES
    found: list[object] = []
    rest = iter(values)
    for value in rest:
        item = value if value is None or isinstance(value, bool | int | float) else one_line(str(value))
        left -= len(str(item).encode())
        if left < 0:
            return [*found, f"... ({1 + sum(1 for _ in rest)} more)"]
        found.append(item)
    return found


def _cut(text: str, max_bytes: int, missing: int) -> str:
    """Cut a text to so many bytes. ``missing``: how many characters after it are missing already."""
    kept = text.encode("utf-8", "surrogatepass")[:max_bytes].decode("utf-8", "ignore")
    missing = max(missing, 0) + len(text) - len(kept)
    return f"{kept}... ({missing} more characters)" if missing else text
