"""Server-Sent Events: each open page receives the changes as they are published."""

import json
from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from cloud.gallery.web.shown import Shown

BEAT_SECONDS = 10
"""Interval of the event ``beat``, from which a page knows that its connection still works."""
SEND_TIMEOUT_SECONDS = 30
RETRY_MS = 1000


def _event(kind: str, data: dict[str, Any], event_id: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, separators=(",", ":")), event=kind, id=event_id, retry=RETRY_MS)


class Events:
    """Sends the changes."""

    def __init__(self, gallery: Shown) -> None:
        self._gallery = gallery

    async def stream(self, request: Request) -> Response:
        """Send the present state; then the changes after the header Last-Event-ID, or the parameter ``since``."""
        last = request.headers.get("last-event-id") or request.query_params.get("since")
        return EventSourceResponse(
            self._changes(last),
            ping=BEAT_SECONDS,
            ping_message_factory=lambda: _event("beat", {}),
            send_timeout=SEND_TIMEOUT_SECONDS,
            headers={"Cache-Control": "no-store"},
        )

    async def _changes(self, last: str | None) -> AsyncIterator[ServerSentEvent]:
        yield _event("state", await run_in_threadpool(self._gallery.state))
        async for change in self._gallery.changes.since(last):
            yield _event(change.kind, change.data, change.id)
