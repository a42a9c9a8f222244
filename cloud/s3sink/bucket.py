"""Writes objects to the S3 bucket. Each call makes one attempt; its caller decides when to try again."""

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from prometheus_client import CollectorRegistry, Histogram

from cloud.s3_errors import NO_USABLE_ANSWER, reason_of, status_of
from cloud.s3sink.acceptance import Acceptance
from cloud.s3sink.answers import EXISTS_STATUSES, DifferentObject, Outcome, TemporaryFailure, failure_for, is_redirect
from cloud.s3sink.objects import S3Object
from cloud.s3sink.reference_clock import ReferenceClock
from cloud.s3sink.settings import WriteSettings
from cloud.s3sink.store_check import Abilities, StoreCheck, list_first, size_of
from cloud.s3sink.writing.boto3_writer import Boto3Writer
from cloud.s3sink.writing.http_writer import HttpWriter
from cloud.s3sink.writing.target import NotPossible
from cloud.s3sink.writing.writer import Writer
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIN_LOG_INTERVAL_SECONDS = 30.0
"""Minimum interval between two warnings, so that intermittent failures do not flood the log."""
DATE_INTERVAL_SECONDS = 1.0
"""Minimum interval between two notes of the time of S3."""
CONNECT_SECONDS = 5
READ_SECONDS = 10
_KEY_LOCKS = 64
_THREADS = 16
"""Maximum number of threads in which boto3 works: it lists objects, refreshes credentials, and writes if it must."""

_log = structlog.get_logger("s3sink")


class Bucket:
    """Writes objects to one bucket. :meth:`write` belongs to one event loop; the rest may be called in any thread."""

    def __init__(self, settings: WriteSettings, registry: CollectorRegistry) -> None:
        """Create an S3 client. boto3 reads its own settings (``AWS_*``, profile, instance role).

        Args:
            settings: bucket, prefix and encryption.
            registry: for the histogram of write times.

        Raises:
            ConfigurationError: boto3's settings are wrong, such as the region, the address or the profile.
        """
        self.name, self._settings, self._encryption = settings.s3_bucket, settings, settings.encryption()
        self._lock = threading.Lock()
        meaning = "How long S3 takes to answer a write, by its answer."
        seconds = Histogram("facewire_s3_write_seconds", meaning, ["answer"], registry=registry)
        self._seconds = {answer: seconds.labels(answer) for answer in ("written", "already_there", "failed")}
        self.acceptance = Acceptance()
        self.clock = ReferenceClock()
        self.problem = ""
        """Reason the last write failed; empty if it succeeded."""
        self._is_failing = False
        self._date_due_at = -math.inf
        self._logged_at = -MIN_LOG_INTERVAL_SECONDS
        self._abilities: Abilities | None = None
        self._key_locks = [asyncio.Lock() for _ in range(_KEY_LOCKS)]
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="boto3")
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=_THREADS,
            retries={"total_max_attempts": 1},  # the sink decides when to try again
        )
        try:
            self._session = botocore.session.get_session()
            self.client: S3Client = boto3.Session(botocore_session=self._session).client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"AWS settings: {error}") from None
        self._boto3_writer = Boto3Writer(self.client, self.name, self._encryption, self._threads)
        self.writer: Writer = self._boto3_writer
        """How objects are written."""
        self.client.meta.events.register("after-call.s3", self._after_call)

    def check(self) -> None:
        """Check that the bucket exists and can be listed below the prefix. If S3 is unreachable, log it and return.

        HeadBucket is not used: its permission would also allow listing every other key.

        Raises:
            ConfigurationError: the bucket does not exist, or access is denied.
        """
        try:
            list_first(self.client, self.name, f"{self._settings.s3_prefix}/")
        except TemporaryFailure as error:
            self.note_failure(str(error))
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ConfigurationError(
                f"S3_BUCKET is '{self.name}': no credentials ({str(error).rstrip('.')}); expected "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or an instance role",
                ExitCode.NO_PERMISSION,
            ) from None
        except NO_USABLE_ANSWER as error:
            if isinstance(error, ClientError) and status_of(error) == 404:
                raise ConfigurationError(
                    f"S3_BUCKET is '{self.name}': there is no such bucket; expected an existing one",
                    ExitCode.UNAVAILABLE,
                ) from None
            if isinstance(error, ClientError) and status_of(error) in (401, 403):
                raise ConfigurationError(
                    f"S3_BUCKET is '{self.name}': access denied; expected credentials with s3:ListBucket and "
                    f"s3:PutObject below {self._settings.s3_prefix}/",
                    ExitCode.NO_PERMISSION,
                ) from None
            self.note_failure(reason_of(error))

    def check_store(self, *, read: bool = False) -> Abilities:
        """Find out what the store can do. :meth:`write` is allowed afterwards.

        Args:
            read: also try to read the metadata, for which the sink's policy gives no permission.

        Raises:
            TemporaryFailure: the store does not answer, or its answers do not allow a conclusion.
        """
        abilities = self._abilities = StoreCheck(self.client, self._settings).run(read=read)
        return abilities

    def try_to_write(self) -> None:
        """Write a small object of the sink's own, if it is not there. It says whether S3 accepts objects.

        Raises:
            TemporaryFailure: S3 does not answer, or refuses.
        """
        StoreCheck(self.client, self._settings).try_to_write()

    def write_without_boto3(self) -> None:
        """Write with requests of our own from now on, if that is possible: they cost a tenth. Otherwise log why not."""
        try:
            self.writer = HttpWriter(
                self.client,
                self.name,
                self._encryption,
                self._session.get_credentials(),
                self._session.get_config_variable("ca_bundle"),
                self._threads,
                (CONNECT_SECONDS, READ_SECONDS),
            )
        except (NotPossible, BotoCoreError, OSError) as error:
            self.writer = self._boto3_writer
            _log.warning("writing with boto3, which is slower", reason=str(error))

    async def close(self) -> None:
        """Close the connections to S3. The writes under way fail."""
        if isinstance(self.writer, HttpWriter):
            await self.writer.close()

    async def write(self, s3_object: S3Object) -> Outcome:
        """Write an object unless its key exists already. Make one attempt.

        Raises:
            TemporaryFailure: S3 did not accept the object this time.
            PermanentFailure: S3 will never accept the object.
            DifferentObject: the key exists, and its object has another size.
        """
        started_at, answer = time.perf_counter(), "failed"
        try:
            outcome = await self._write(s3_object)
            answer = outcome.value
        except TemporaryFailure as error:
            self.note_failure(str(error), s3_object.key)
            raise
        finally:
            self._seconds[answer].observe(time.perf_counter() - started_at)
        self.acceptance.note()
        self._note_success()
        return outcome

    def note_failure(self, reason: str, key: str = "") -> None:
        """Log that S3 does not accept objects, or only not this one. Further failures are logged once in a while."""
        is_partial = self.acceptance.is_recent
        with self._lock:
            self.problem = reason
            if self._is_failing or time.monotonic() - self._logged_at < MIN_LOG_INTERVAL_SECONDS:
                return
            self._is_failing, self._logged_at = not is_partial, time.monotonic()
        if is_partial:
            _log.warning("S3 accepts other objects but not this one, retrying", key=key, reason=reason)
        else:
            _log.warning("S3 does not accept objects, retrying", bucket=self.name, reason=reason)

    def _after_call(self, http_response: Any, **_: Any) -> None:
        self.clock.note(http_response.headers.get("Date"))

    async def _write(self, s3_object: S3Object) -> Outcome:
        if self._abilities is None:
            raise TemporaryFailure("the store has not been checked")
        if self._abilities.conditional_writes:
            return await self._put(s3_object, self._abilities)
        async with self._key_locks[hash(s3_object.key) % _KEY_LOCKS]:  # two messages with the same face
            if await self._is_there(s3_object):
                return Outcome.ALREADY_THERE
            return await self._put(s3_object, self._abilities)

    async def _put(self, s3_object: S3Object, abilities: Abilities) -> Outcome:
        writer, conditional, sha256 = self.writer, abilities.conditional_writes, abilities.sha256
        answer = await writer.put(s3_object, conditional=conditional, sha256=sha256)
        self._note_date(answer.date)
        if is_redirect(answer.status, answer.code) and writer is not self._boto3_writer:
            # boto3 finds the region of the bucket, and remembers it. The next writes go there at once.
            answer = await self._boto3_writer.put(s3_object, conditional=conditional, sha256=sha256)
            await self.close()
            self.write_without_boto3()
        if answer.status in EXISTS_STATUSES and conditional:
            return await self._confirm(s3_object, answer.status)
        if not 200 <= answer.status < 300:
            raise failure_for(answer.status, answer.code, answer.reason)
        if not answer.etag:
            raise TemporaryFailure("the response has no ETag, so it is not from an S3 server")
        return Outcome.WRITTEN

    async def _confirm(self, s3_object: S3Object, status: int) -> Outcome:
        """Confirm that the object is there. A store or a proxy may give the status for another reason."""
        if await self._is_there(s3_object):
            return Outcome.ALREADY_THERE
        raise TemporaryFailure(f"S3 answers that the object exists (HTTP status {status}), but does not list it")

    async def _is_there(self, s3_object: S3Object) -> bool:
        loop = asyncio.get_running_loop()
        size = await loop.run_in_executor(self._threads, size_of, self.client, self.name, s3_object.key)
        if size not in (None, len(s3_object.body)):
            raise DifferentObject(f"the object in S3 has {size} bytes, this one has {len(s3_object.body)}")
        return size is not None

    def _note_date(self, date: str | None) -> None:
        """Note the time of S3, but not at each write: that would cost more than it tells."""
        if date is not None and time.monotonic() >= self._date_due_at:
            self.clock.note(date)
            self._date_due_at = time.monotonic() + DATE_INTERVAL_SECONDS

    def _note_success(self) -> None:
        with self._lock:
            recovered, self._is_failing, self.problem = self._is_failing, False, ""
        if recovered:
            _log.info("S3 accepts objects again", bucket=self.name)
