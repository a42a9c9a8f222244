"""Reads header fields of a request as they were sent, so that none is there twice unnoticed."""

from collections.abc import Iterable

Fields = Iterable[tuple[bytes, bytes]]
"""The header fields of an ASGI scope: names in lower case, values as they were sent."""


def values(fields: Fields, name: str) -> list[str]:
    """Return the values of every field with this name."""
    wanted = name.lower().encode()
    return [value.decode("latin-1").strip() for found, value in fields if found == wanted]


def only(fields: Fields, name: str) -> str | None:
    """Return the value of a field; None if it is missing or there more than once."""
    found = values(fields, name)
    return found[0] if len(found) == 1 else None
