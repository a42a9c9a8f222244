"""The bucket: one write, which ends when the object is there, however long that takes.

S3 away, throttling, out of sorts or misconfigured: the write waits and tries again, and nothing is lost. The one answer
that ends it otherwise is that S3 will never take this very object (:class:`PermanentFailure`).
"""

import math
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from prometheus_client import CollectorRegistry, Histogram
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    wait_random_exponential,
)

from cloud.s3sink.objects import S3Object
from cloud.s3sink.settings import SinkSettings
from wire.errors import ConfigurationError, ExitCode, FacewireError
from wire.process.lifecycle import Stop

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

INITIAL_RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 20.0
QUIET_SECONDS = 30.0
"""Trouble is mentioned once in this time at the most: where S3 fails now and then, each write would mention it."""
_TIMEOUT_SECONDS = 10
REFUSAL_SECONDS = 10.0
"""An object that S3 refuses for this long, while it takes others, is refused for good."""
_NEVER = frozenset(("MetadataTooLarge", "KeyTooLongError", "EntityTooLarge"))
"""What S3 says of an object that it will not take today or tomorrow."""

_log = structlog.get_logger("s3sink")


class Outcome(Enum):
    """How a write ended."""

    WRITTEN = "written"
    ALREADY_THERE = "already_there"


class PermanentFailure(FacewireError):
    """S3 will never take this object, as it is."""


class TemporaryFailure(FacewireError):
    """S3 did not take the object this time."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        """It answered, and said no to this request: its key, its credentials, its bucket."""


class Stopped(FacewireError):
    """The process was asked to stop before S3 had answered."""


class Bucket:
    """Writes objects to one bucket. Safe to use from several threads."""

    def __init__(self, settings: SinkSettings, stop: Stop, registry: CollectorRegistry) -> None:
        """Set up a client with boto3's own chain of settings.

        Args:
            settings: the bucket's name, its encryption, and how many writes will be under way at once.
            stop: ends the waiting of writes that have not succeeded.
            registry: of the metrics.

        Raises:
            ConfigurationError: boto3 cannot make a client of its settings (a region, an address, a profile).
        """
        self._name, self._encryption, self._stop = settings.s3_bucket, settings.encryption(), stop
        self._lock = threading.Lock()
        self._seconds = Histogram(
            "facewire_s3_write_seconds",
            "How long S3 takes to answer a write, by its answer.",
            ["answer"],
            registry=registry,
        )
        self._taken_at = -math.inf
        """When S3 last took an object, on the monotonic clock."""
        self.problem = ""
        """Why the last write has failed; empty where it has not."""
        self._has_problem = False
        self._logged_at = -QUIET_SECONDS
        config = Config(
            connect_timeout=_TIMEOUT_SECONDS,
            read_timeout=_TIMEOUT_SECONDS,
            max_pool_connections=settings.s3_concurrency,
            retries={"total_max_attempts": 1},  # waiting is done below, where it can be called off
        )
        try:
            self._client: S3Client = boto3.client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"AWS settings: {error}") from None

    def check(self) -> None:
        """See whether the bucket is there and lets us in. S3 being away is no reason not to start.

        Raises:
            ConfigurationError: it is not, or it does not; the message names the bucket and what is missing.
        """
        try:
            self._client.head_bucket(Bucket=self._name)
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ConfigurationError(
                f"S3_BUCKET is '{self._name}': no credentials for it ({str(error).rstrip('.')}); expected "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or an instance role",
                ExitCode.NO_PERMISSION,
            ) from None
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise ConfigurationError(
                    f"S3_BUCKET is '{self._name}': there is no such bucket; expected one that exists",
                    ExitCode.UNAVAILABLE,
                ) from None
            if status in (401, 403):
                raise ConfigurationError(
                    f"S3_BUCKET is '{self._name}': access denied; expected credentials with s3:ListBucket on the "
                    "bucket and s3:PutObject on its objects",
                    ExitCode.NO_PERMISSION,
                ) from None
            self._log_problem(_reason(error))
        except BotoCoreError as error:
            self._log_problem(str(error))

    def write(self, stored: S3Object, began: float) -> Outcome:
        """Write an object, unless its key is there already. Tries until S3 has answered.

        Args:
            stored: the object.
            began: when its message was first tried, on the monotonic clock.

        Raises:
            Unacceptable: S3 will never take it.
            Stopped: the process is to stop.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(TemporaryFailure),
            wait=wait_random_exponential(multiplier=INITIAL_RETRY_SECONDS, max=MAX_RETRY_SECONDS),
            stop=self._gives_up(began),
            sleep=sleep_using_event(self._stop.event),
            before_sleep=self._before_sleep,
            reraise=True,
        )
        try:
            outcome = attempts(self._put, stored)
        except TemporaryFailure as error:
            if self._stop:
                raise Stopped(str(error)) from None
            raise PermanentFailure(f"refused for {REFUSAL_SECONDS:g} s while others were taken: {error}") from None
        self._taken_at = time.monotonic()
        self._recovered()
        return outcome

    def _gives_up(self, began: float) -> Callable[[RetryCallState], bool]:
        """Return what ends a write: the order to stop, or a refusal of this object alone, lest it hold up others."""

        def gives_up(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            refused = isinstance(error, TemporaryFailure) and error.refused
            alone = refused and time.monotonic() - began > REFUSAL_SECONDS and self._taken_at > began
            return bool(self._stop) or alone

        return gives_up

    def _put(self, stored: S3Object) -> Outcome:
        began = time.perf_counter()
        answer = "failed"
        try:
            outcome = self._ask(stored)
            answer = outcome.value
        finally:
            self._seconds.labels(answer).observe(time.perf_counter() - began)
        return outcome

    def _ask(self, stored: S3Object) -> Outcome:
        try:
            answer = self._client.put_object(
                Bucket=self._name,
                Key=stored.key,
                Body=stored.body,
                ContentType=stored.content_type,
                Metadata=stored.metadata,
                IfNoneMatch="*",
                **self._encryption,
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("PreconditionFailed", "412"):
                return Outcome.ALREADY_THERE
            if code in _NEVER:
                raise PermanentFailure(_reason(error)) from None
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise TemporaryFailure(_reason(error), refused=400 <= status < 500) from None
        except ParamValidationError as error:
            raise PermanentFailure(str(error)) from None
        except BotoCoreError as error:
            raise TemporaryFailure(str(error)) from None
        if not answer.get("ETag"):
            raise TemporaryFailure("an answer without an ETag: not from an S3 server")
        return Outcome.WRITTEN

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._log_problem(str(error))

    def _log_problem(self, reason: str) -> None:
        with self._lock:
            self.problem = reason
            if self._has_problem or time.monotonic() - self._logged_at < QUIET_SECONDS:
                return
            self._has_problem, self._logged_at = True, time.monotonic()
        _log.warning("S3 does not take objects, trying again", bucket=self._name, reason=reason)

    def _recovered(self) -> None:
        with self._lock:
            recovered, self._has_problem, self.problem = self._has_problem, False, ""
        if recovered:
            _log.info("S3 takes objects again", bucket=self._name)


def _reason(error: ClientError) -> str:
    details = error.response.get("Error", {})
    return f"{details.get('Code', 'Error')}: {details.get('Message', error)}"
