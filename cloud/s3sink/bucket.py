"""Writes objects to the S3 bucket, with retries.

A write is retried until S3 has accepted the object, whether S3 is unreachable, throttling, failing or misconfigured. It
fails only if S3 will never accept this object (:class:`PermanentFailure`), or if the process stops.
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
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, wait_random_exponential

from cloud.s3sink.objects import S3Object
from cloud.s3sink.settings import SinkSettings
from wire.errors import ConfigurationError, FacewireError
from wire.exit_codes import ExitCode
from wire.process.lifecycle import Stop

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

INITIAL_RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 20.0
MIN_LOG_INTERVAL_SECONDS = 30.0
"""Minimum interval between two warnings, so that intermittent failures do not flood the log."""
_TIMEOUT_SECONDS = 10
MAX_REFUSED_SECONDS = 10.0
"""If S3 refuses an object for this long while it accepts others, the refusal is permanent."""
_PERMANENT_ERROR_CODES = frozenset(("MetadataTooLarge", "KeyTooLongError", "EntityTooLarge"))

_log = structlog.get_logger("s3sink")


class Outcome(Enum):
    """How a write ended."""

    WRITTEN = "written"
    ALREADY_THERE = "already_there"


class PermanentFailure(FacewireError):
    """S3 will never accept this object."""


class TemporaryFailure(FacewireError):
    """S3 did not accept the object this time."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        """S3 answered with a 4xx status, which may be due to the object, the credentials or the bucket."""


class Stopped(FacewireError):
    """The process was asked to stop before S3 had accepted the object."""


class Bucket:
    """Writes objects to one bucket. Safe to use from several threads."""

    def __init__(self, settings: SinkSettings, stop: Stop, registry: CollectorRegistry) -> None:
        """Create an S3 client. boto3 reads its own settings (``AWS_*``, profile, instance role).

        Raises:
            ConfigurationError: boto3's settings are wrong, such as the region, the address or the profile.
        """
        self._name, self._encryption, self._stop = settings.s3_bucket, settings.encryption(), stop
        self._lock = threading.Lock()
        meaning = "How long S3 takes to answer a write, by its answer."
        self._seconds = Histogram("facewire_s3_write_seconds", meaning, ["answer"], registry=registry)
        self._accepted_at = -math.inf
        """When S3 last accepted an object, on the monotonic clock."""
        self.problem = ""
        """Reason the last write failed; empty if it succeeded."""
        self._is_failing = False
        self._logged_at = -MIN_LOG_INTERVAL_SECONDS
        config = Config(
            connect_timeout=_TIMEOUT_SECONDS,
            read_timeout=_TIMEOUT_SECONDS,
            max_pool_connections=settings.s3_concurrency,
            retries={"total_max_attempts": 1},  # retries are made in write(), where they can be interrupted
        )
        try:
            self._client: S3Client = boto3.client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"AWS settings: {error}") from None

    def check(self) -> None:
        """Check that the bucket exists and is accessible. If S3 is unreachable, log it and return.

        Raises:
            ConfigurationError: the bucket does not exist, or access is denied.
        """
        try:
            self._client.head_bucket(Bucket=self._name)
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ConfigurationError(
                f"S3_BUCKET is '{self._name}': no credentials ({str(error).rstrip('.')}); expected "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or an instance role",
                ExitCode.NO_PERMISSION,
            ) from None
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise ConfigurationError(
                    f"S3_BUCKET is '{self._name}': there is no such bucket; expected an existing one",
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

    def write(self, s3_object: S3Object, started_at: float) -> Outcome:
        """Write an object unless its key exists already. Retry until S3 has accepted it.

        Args:
            s3_object: the object.
            started_at: time of the first attempt for this message, on the monotonic clock.

        Raises:
            PermanentFailure: S3 will never accept the object.
            Stopped: the process was asked to stop.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(TemporaryFailure),
            wait=wait_random_exponential(multiplier=INITIAL_RETRY_SECONDS, max=MAX_RETRY_SECONDS),
            stop=self._stop_condition(started_at),
            sleep=sleep_using_event(self._stop.event),
            before_sleep=lambda state: self._log_problem(str(_error_of(state))),
            reraise=True,
        )
        try:
            outcome = attempts(self._put, s3_object)
        except TemporaryFailure as error:
            if self._stop:
                raise Stopped(str(error)) from None
            raise PermanentFailure(
                f"refused for {MAX_REFUSED_SECONDS:g} s while other objects were accepted: {error}"
            ) from None
        self._accepted_at = time.monotonic()
        self._log_recovery()
        return outcome

    def _stop_condition(self, started_at: float) -> Callable[[RetryCallState], bool]:
        """Return the condition that ends the retries: the process stops, or S3 refuses only this object."""

        def should_stop(state: RetryCallState) -> bool:
            error = _error_of(state)
            is_refused = isinstance(error, TemporaryFailure) and error.refused
            is_refused_for_long = is_refused and time.monotonic() - started_at > MAX_REFUSED_SECONDS
            return bool(self._stop) or (is_refused_for_long and self._accepted_at > started_at)

        return should_stop

    def _put(self, s3_object: S3Object) -> Outcome:
        started_at, answer = time.perf_counter(), "failed"
        try:
            outcome = self._send_request(s3_object)
            answer = outcome.value
        finally:
            self._seconds.labels(answer).observe(time.perf_counter() - started_at)
        return outcome

    def _send_request(self, s3_object: S3Object) -> Outcome:
        try:
            response = self._client.put_object(
                Bucket=self._name,
                Key=s3_object.key,
                Body=s3_object.body,
                ContentType=s3_object.content_type,
                Metadata=s3_object.metadata,
                IfNoneMatch="*",
                **self._encryption,
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("PreconditionFailed", "412"):
                return Outcome.ALREADY_THERE
            if code in _PERMANENT_ERROR_CODES:
                raise PermanentFailure(_reason(error)) from None
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise TemporaryFailure(_reason(error), refused=400 <= status < 500) from None
        except ParamValidationError as error:
            raise PermanentFailure(str(error)) from None
        except BotoCoreError as error:
            raise TemporaryFailure(str(error)) from None
        if not response.get("ETag"):
            raise TemporaryFailure("the response has no ETag, so it is not from an S3 server")
        return Outcome.WRITTEN

    def _log_problem(self, reason: str) -> None:
        with self._lock:
            self.problem = reason
            if self._is_failing or time.monotonic() - self._logged_at < MIN_LOG_INTERVAL_SECONDS:
                return
            self._is_failing, self._logged_at = True, time.monotonic()
        _log.warning("S3 does not accept objects, retrying", bucket=self._name, reason=reason)

    def _log_recovery(self) -> None:
        with self._lock:
            recovered, self._is_failing, self.problem = self._is_failing, False, ""
        if recovered:
            _log.info("S3 accepts objects again", bucket=self._name)


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _reason(error: ClientError) -> str:
    details = error.response.get("Error", {})
    return f"{details.get('Code', 'Error')}: {details.get('Message', error)}"
