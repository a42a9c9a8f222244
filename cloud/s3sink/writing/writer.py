"""What writes an object to S3, and S3's answer to it."""

from dataclasses import dataclass
from typing import Protocol

from cloud.s3sink.objects import S3Object


@dataclass(frozen=True, slots=True)
class Answer:
    """S3's answer to one write."""

    status: int
    """HTTP status."""
    code: str = ""
    """S3's error code, such as ``AccessDenied``; empty if there is none."""
    message: str = ""
    etag: str = ""
    """Empty if there is none: then the answer is not from an S3 server."""
    date: str | None = None
    """The ``Date`` header, if the writer reports it."""

    @property
    def reason(self) -> str:
        """Why the write failed, in one line for the operator."""
        text = self.message or f"HTTP status {self.status}"
        return " ".join(f"{self.code}: {text}".split()) if self.code else text


class Writer(Protocol):
    """Writes objects to one bucket, with one attempt for each call. All calls are made on one event loop."""

    async def put(self, s3_object: S3Object, *, conditional: bool, sha256: bool) -> Answer:
        """Write an object.

        Args:
            s3_object: the object.
            conditional: only if its key does not exist.
            sha256: S3 verifies the SHA-256 of the body.

        Raises:
            TemporaryFailure: there is no usable answer.
            PermanentFailure: the object cannot be sent to S3.
        """
