"""Finds out what a store can do, by writing a small object under ``<prefix>/store-check``.

The sink's own permissions suffice. The object stays there, as the sink may not delete anything.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from cloud.s3_errors import NO_USABLE_ANSWER, code_of, reason_of, status_of
from cloud.s3sink.answers import PermanentFailure, TemporaryFailure, failure_of, says_it_exists, unexpected_as_temporary
from cloud.s3sink.settings import WriteSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHECK_NAME = "store-check"
_WRONG_NAME = "store-check-wrong"
"""A store that verifies checksums never stores an object with this name."""
_BODY = b"Facewire writes this object to find out what the store can do.\n"
_METADATA = {"facewire": "store-check"}
ABILITIES = ("if-none-match", "checksum", "metadata")
"""What is checked, in the words that the operator reads."""
_ROUNDS = 3
"""How often a store must behave as if it had no conditional writes. A single answer may be a passing fault."""
_NOT_SUPPORTED_STATUSES = frozenset((400, 405, 501))
_PASSING_CODES = frozenset(("RequestTimeout", "ExpiredToken", "TokenRefreshRequired", "BadDigest", "IncompleteBody"))
"""Codes that come with these statuses, and do not say that a header is not supported."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a store can do."""

    conditional_writes: bool
    """It refuses a write with ``If-None-Match: *`` if the object exists."""
    sha256: bool
    """It refuses an object that does not have the SHA-256 that the request gives."""
    metadata: bool | None = None
    """It keeps the metadata. None: not known, because these credentials may not read objects."""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what was checked and what it means, in plain words."""
        conditional_writes, checksum, metadata = ABILITIES
        yield (
            conditional_writes,
            "supported: an object is never overwritten"
            if self.conditional_writes
            else "missing: the sink looks for the object before each write, and each face has at most one object, "
            "but an object can be overwritten by the same face",
        )
        yield (
            checksum,
            "SHA-256 is verified by the store"
            if self.sha256
            else "the store does not verify SHA-256: only the sink verifies it",
        )
        kept = {
            True: "kept",
            False: "lost: the attributes of a face are not stored with it",
            None: "not checked: these credentials may not read objects",
        }
        yield metadata, kept[self.metadata]


class _Answer(Enum):
    """The answer to a write."""

    WRITTEN = "written"
    EXISTS = "exists"
    NOT_SUPPORTED = "not supported"


class StoreCheck:
    """Checks one bucket."""

    def __init__(self, client: "S3Client", settings: WriteSettings) -> None:
        self._client, self._bucket, self._encryption = client, settings.s3_bucket, settings.encryption()
        self._key, self._wrong_key = f"{settings.s3_prefix}/{CHECK_NAME}", f"{settings.s3_prefix}/{_WRONG_NAME}"

    def run(self, *, read: bool = False) -> Abilities:
        """Return what the store can do.

        Args:
            read: also read the object's metadata, for which the sink's policy gives no permission.

        Raises:
            TemporaryFailure: the store does not answer, or its answers do not allow a conclusion.
        """
        conditional = self._has_conditional_writes()
        sha256 = self._verifies_sha256(conditional)
        return Abilities(conditional, sha256, self._keeps_metadata() if read else None)

    def try_to_write(self) -> None:
        """Write the object of the check if it is not there.

        Raises:
            TemporaryFailure: the store does not answer, or refuses.
        """
        answer = self._put(self._key, IfNoneMatch="*")
        if answer is _Answer.NOT_SUPPORTED and self._put(self._key) is not _Answer.WRITTEN:
            raise TemporaryFailure("S3 accepts no write")

    def _has_conditional_writes(self) -> bool:
        for _ in range(_ROUNDS):
            self._put(self._key, IfNoneMatch="*")
            again = self._put(self._key, IfNoneMatch="*")
            if again is _Answer.EXISTS:
                if size_of(self._client, self._bucket, self._key) is None:  # another version wrote another text
                    raise TemporaryFailure(f"S3 answers that {self._key} exists, but does not list it")
                return True
            if again is _Answer.NOT_SUPPORTED and self._put(self._key) is not _Answer.WRITTEN:
                raise TemporaryFailure("S3 accepts no write")
        return False

    def _verifies_sha256(self, conditional: bool) -> bool:
        wrong = base64.b64encode(hashlib.sha256(b"another content").digest()).decode("ascii")
        condition = {"IfNoneMatch": "*"} if conditional else {}
        try:
            self._request(self._wrong_key, ChecksumSHA256=wrong, **condition)
        except NO_USABLE_ANSWER as error:
            if not any(word in code_of(error) for word in ("Digest", "Checksum", "Mismatch")):
                if status_of(error) in {412, *_NOT_SUPPORTED_STATUSES} and code_of(error) not in _PASSING_CODES:
                    return False  # it does not know this header, or has stored the object at an earlier check
                raise _as_temporary(error) from None
        else:
            return False
        return self._put(self._key, ChecksumSHA256=sha256_header(_BODY), **condition) is not _Answer.NOT_SUPPORTED

    def _keeps_metadata(self) -> bool | None:
        try:
            with unexpected_as_temporary():
                return self._client.head_object(Bucket=self._bucket, Key=self._key)["Metadata"] == _METADATA
        except NO_USABLE_ANSWER as error:
            if status_of(error) == 403:
                return None
            raise _as_temporary(error) from None

    def _put(self, key: str, **options: Any) -> _Answer:
        try:
            self._request(key, **options)
        except NO_USABLE_ANSWER as error:
            if says_it_exists(error) and "IfNoneMatch" in options:
                return _Answer.EXISTS
            if status_of(error) in _NOT_SUPPORTED_STATUSES and code_of(error) not in _PASSING_CODES:
                return _Answer.NOT_SUPPORTED
            raise _as_temporary(error) from None
        return _Answer.WRITTEN

    def _request(self, key: str, **options: Any) -> None:
        with unexpected_as_temporary():
            response = self._client.put_object(
                Bucket=self._bucket, Key=key, Body=_BODY, Metadata=_METADATA, **self._encryption, **options
            )
        if not response.get("ETag"):
            raise TemporaryFailure("the response has no ETag, so it is not from an S3 server")


def is_store_check(key: str) -> bool:
    """Return whether a key is that of an object which the check writes."""
    return key.rpartition("/")[2] in (CHECK_NAME, _WRONG_NAME)


def size_of(client: "S3Client", bucket: str, key: str) -> int | None:
    """Return the size of an object in bytes, or None if there is none.

    The object is listed, because HeadObject needs the permission to read it.

    Raises:
        TemporaryFailure: S3 does not answer, or its answer is not a listing.
    """
    try:
        first = list_first(client, bucket, key)
    except NO_USABLE_ANSWER as error:
        raise _as_temporary(error) from None
    return first[1] if first is not None and first[0] == key else None


def list_first(client: "S3Client", bucket: str, prefix: str) -> tuple[str, int] | None:
    """Return key and size of the first object whose key begins with ``prefix``, or None if there is none.

    Raises:
        TemporaryFailure: the answer is not a listing.
        NO_USABLE_ANSWER: S3 does not answer, or refuses.
    """
    with unexpected_as_temporary():
        listed = dict(client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1))
        if not listed.keys() & {"Name", "KeyCount", "Contents"}:
            raise TemporaryFailure("the answer to a listing is not complete")
        contents: Any = listed.get("Contents", [])
        return next(((item["Key"], int(item["Size"])) for item in contents), None)


def sha256_header(body: bytes) -> str:
    """Return the SHA-256 of an object as S3 expects it: base64."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")


def _as_temporary(error: Exception) -> TemporaryFailure:
    failure = failure_of(error)
    return TemporaryFailure(reason_of(error)) if isinstance(failure, PermanentFailure) else failure
