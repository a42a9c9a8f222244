"""What S3's answers to a write mean: written, already there, not this time, or never.

Few answers are permanent. A 403 may pass when a policy has reached every server, a token is renewed or a clock is set;
a 404, when the bucket is restored; a 400 may only say that the request was too slow. So every answer that is not in a
short list is temporary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from botocore.exceptions import (
    ConnectTimeoutError,
    ParamValidationError,
    ReadTimeoutError,
)

from cloud.s3_errors import NO_USABLE_ANSWER, code_of, reason_of, status_of
from wire.errors import FacewireError

PERMANENT_CODES = frozenset(("MetadataTooLarge", "KeyTooLongError", "EntityTooLarge"))
EXISTS_STATUSES = frozenset((304, 412))
"""Most stores answer 412 to a conditional write of an object that exists. Some answer 304."""
_OVERLOAD_STATUSES = frozenset((429, 503))
_OVERLOAD_CODES = frozenset(("SlowDown", "RequestTimeout", "TooManyRequests"))
_REDIRECT_STATUSES = frozenset((301, 302, 307, 308))
_REDIRECT_CODES = frozenset(
    ("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
)
"""What S3 answers if the bucket is in another region than the request says."""


class Outcome(Enum):
    """How a write ended."""

    WRITTEN = "written"
    ALREADY_THERE = "already_there"


class PermanentFailure(FacewireError):
    """S3 will never accept this object."""


class TemporaryFailure(FacewireError):
    """S3 did not accept the object this time."""


class Overloaded(TemporaryFailure):
    """S3 asks for fewer requests, or did not answer in time."""


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
    if isinstance(error, ParamValidationError):
        return PermanentFailure(reason_of(error))
    if isinstance(error, ConnectTimeoutError | ReadTimeoutError):
        return Overloaded(reason_of(error))
    return failure_for(status_of(error), code_of(error), reason_of(error))


def failure_for(status: int, code: str, reason: str) -> PermanentFailure | TemporaryFailure:
    """Return what an answer other than success means for the write."""
    if code in PERMANENT_CODES:
        return PermanentFailure(reason)
    if status in _OVERLOAD_STATUSES or code in _OVERLOAD_CODES:
        return Overloaded(reason)
    return TemporaryFailure(reason)


def is_redirect(status: int, code: str) -> bool:
    """Return whether an answer says that the bucket is elsewhere."""
    return status in _REDIRECT_STATUSES or code in _REDIRECT_CODES


def says_it_exists(error: Exception) -> bool:
    """Return whether S3 answered a conditional write with "the object exists". The answer may be false."""
    return status_of(error) in EXISTS_STATUSES
