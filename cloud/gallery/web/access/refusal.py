"""A request that is refused, and why."""

import json
import math
from http import HTTPStatus

from starlette.responses import Response


class Refusal(Exception):
    """The request is refused. The text is one line for the person in front of the browser."""

    def __init__(self, status: int, text: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_seconds = retry_seconds
        """Seconds after which the request may be repeated; None if that is of no use."""

    def response(self) -> Response:
        """Return the answer to the request, a JSON object with the member ``error``."""
        headers = {}
        if self.retry_seconds is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_seconds)))
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, HEAD, POST"
        return error(self.status, self.text, headers)


def error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that consists of a JSON object with the member ``error``."""
    return Response(json.dumps({"error": text}), status, headers, "application/json")
