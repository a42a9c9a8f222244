"""What S3's answers to a write mean: written, already there, not this time, or never.

Few answers are permanent. A 403 may pass when a policy has reached every server, a token is renewed or a clock is set;
a 404, when the bucket is restored; a 400 may only say that the request was too slow. So every answer that is not in a
short list is temporary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from wire.errors import FacewireError

PERMANENT_CODES = frozenset(("MetadataTooLarge", "KeyTooLongError", "EntityTooLarge"))
_EXISTS_STATUSES = frozenset((304, 412))
"""Most stores answer 412 to a conditional write of an object that exists. Some answer 304."""

NO_USABLE_ANSWER = (ClientError, BotoCoreError, ResponseParserError, HTTPError, OSError)
"""Exceptions of boto3 for every answer other than success, including none and one that is cut in the middle."""


class Outcome(Enum):
    """How a write ended."""

    WRITTEN = "written"
    ALREADY_THERE = "already_there"


class PermanentFailure(FacewireError):
    """S3 will never accept this object."""


class TemporaryFailure(FacewireError):
    """S3 did not accept the object this time."""


class DifferentObject(FacewireError):
    """There is an object with this key and another size. It is never overwritten."""


@contextmanager
def unexpected_as_temporary() -> Iterator[None]:
    """Raise :class:`TemporaryFailure` for an exception that boto3 does not document.

    boto3 raises ``KeyError``, ``ValueError`` and others for an answer that is well formed but not as it expects. The
    exception says nothing about this process, which would only get the same answer after a restart. So any exception is
    safe to treat so, except ``MemoryError``. Use it around calls of boto3 and the reading of their results only.
    """
    try:
        yield
    except (FacewireError, MemoryError, *NO_USABLE_ANSWER):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise TemporaryFailure(f"unexpected answer ({type(error).__name__}: {reason})") from error


def failure_of(error: Exception) -> PermanentFailure | TemporaryFailure:
    """Return what an exception of boto3 means for the write."""
    if isinstance(error, ParamValidationError) or code_of(error) in PERMANENT_CODES:
        return PermanentFailure(reason_of(error))
    return TemporaryFailure(reason_of(error))


def says_it_exists(error: Exception) -> bool:
    """Return whether S3 answered a conditional write with "the object exists". The answer may be false."""
    return status_of(error) in _EXISTS_STATUSES


def code_of(error: Exception) -> str:
    """Return S3's error code, such as ``AccessDenied``; empty if there is none."""
    return str(_response_of(error).get("Error", {}).get("Code", ""))


def status_of(error: Exception) -> int:
    """Return the HTTP status of the answer; 0 if there is none."""
    return int(_response_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def reason_of(error: Exception) -> str:
    """Return one line for the operator."""
    details = _response_of(error).get("Error", {})
    if details.get("Code"):
        return f"{details['Code']}: {details.get('Message') or f'HTTP status {status_of(error)}'}"
    return " ".join(str(error).split()) or type(error).__name__


def _response_of(error: Exception) -> dict[str, Any]:
    response: dict[str, Any] = dict(error.response) if isinstance(error, ClientError) else {}
    return response
