"""Credentials that botocore finds and refreshes, without blocking the event loop."""

import asyncio
import time
from concurrent.futures import Executor

from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials

from cloud.s3sink.answers import TemporaryFailure

MIN_INTERVAL_SECONDS = 5.0
"""Minimum interval between two attempts to refresh credentials that are still valid."""


class CurrentCredentials:
    """The credentials to sign with. All calls are made on one event loop.

    botocore refreshes temporary credentials some minutes before they expire. Until they expire, writes go on with them.
    """

    def __init__(self, source: Credentials, threads: Executor) -> None:
        self._source, self._threads = source, threads
        self._frozen: ReadOnlyCredentials | None = None
        self._refresh: asyncio.Future[ReadOnlyCredentials] | None = None
        self._began_at = 0.0

    async def get(self) -> ReadOnlyCredentials:
        """Return valid credentials.

        Raises:
            TemporaryFailure: they have expired, and cannot be refreshed now.
        """
        source = self._source
        if not isinstance(source, RefreshableCredentials) or not source.refresh_needed():
            self._frozen = source.get_frozen_credentials()
            return self._frozen
        is_expired = self._frozen is None or source.refresh_needed(0)
        refresh = self._refresh
        is_underway = refresh is not None and not refresh.done()
        if refresh is None or (
            not is_underway and (is_expired or time.monotonic() - self._began_at > MIN_INTERVAL_SECONDS)
        ):
            self._began_at = time.monotonic()
            loop = asyncio.get_running_loop()
            refresh = self._refresh = loop.run_in_executor(self._threads, source.get_frozen_credentials)
            refresh.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not is_expired and self._frozen is not None:
            return self._frozen
        try:
            return await asyncio.shield(refresh)
        except Exception as error:  # noqa: BLE001 (each of botocore's providers raises its own)
            reason = " ".join(str(error).split())
            raise TemporaryFailure(f"the credentials have expired and cannot be refreshed: {reason}") from None
