"""A proxy in front of S3 that answers as S3 does on a bad day.

Requests and answers pass byte by byte: the signature covers the ``Host`` header, which is that of the proxy for both
sides. The nasty kind of trouble comes *after* S3 has stored the object: only the answer is lost.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from tests.chaos.listener import End, Listener

_HEAD_END = b"\r\n\r\n"
_NO_BODY = frozenset((204, 304))


class Answer(Enum):
    """What S3 says, or does, instead of what it should: status and code of an error, or None."""

    INTERNAL_ERROR = (500, "InternalError")
    SLOW_DOWN = (503, "SlowDown")
    ACCESS_DENIED = (403, "AccessDenied")
    NO_SUCH_BUCKET = (404, "NoSuchBucket")
    CONFLICT = (409, "ConditionalRequestConflict")
    NONE = None
    """It keeps the client waiting until that gives up."""
    RESET = (0, "reset")
    """The connection is reset."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to requests."""

    answer: Answer
    after: bool
    """Whether S3 has carried out the request all the same."""
    share: float
    """Of the requests, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A request or an answer."""

    raw: bytes
    words: list[str]
    """Of its first line."""

    @property
    def status(self) -> int:
        return int(self.words[1])


class S3Proxy(Listener):
    """Stands in front of an S3 server, and keeps the books of what was stored."""

    def __init__(self, target_port: int, seed: int, on_written: Callable[[str], None] = lambda path: None) -> None:
        """Set up a proxy.

        Args:
            target_port: where the S3 server listens.
            seed: for which requests meet with trouble, where not all do.
            on_written: called with the path of each object that S3 has taken, once the client has been told.
        """
        super().__init__(target_port)
        self.problem: Trouble | None = None
        """May be set from any thread."""
        self.written: Counter[str] = Counter()
        """How often S3 has taken an object, by its path. More than once means that it was overwritten."""
        self.already_there = 0
        """How many writes S3 has turned down because the object was there."""
        self._on_written = on_written
        self._chance = random.Random(seed)

    async def serve(self, client: End) -> None:
        """Serve one connection."""
        try:
            while True:
                request = await _read_request(client)
                problem = self._draw()
                if problem and not problem.after:
                    await self._trouble(problem, request, client)
                    continue
                answer = await self._ask(request)
                self._count(request, answer)
                if problem:
                    await self._trouble(problem, request, client)
                    continue
                client.writer.write(answer.raw)
                await client.writer.drain()
                if _has_written(request, answer):
                    self._on_written(_path(request))
        except (OSError, asyncio.IncompleteReadError):
            return  # one side has gone; the other one is reset

    def _draw(self) -> Trouble | None:
        problem = self.problem
        return problem if problem and self._chance.random() < problem.share else None

    async def _ask(self, request: _Message) -> _Message:
        """Pass a request on, and return the answer. One connection each: one that broke is never used again."""
        server = await End.connect(self.target_port)
        try:
            server.writer.write(request.raw)
            await server.writer.drain()
            return await _read_answer(server, request.words[0])
        finally:
            server.writer.close()

    async def _trouble(self, problem: Trouble, request: _Message, client: End) -> None:
        if problem.answer is Answer.NONE:
            await client.until_closed()
            raise ConnectionResetError
        status, code = problem.answer.value
        if problem.answer is Answer.RESET:
            client.reset()
            raise ConnectionResetError
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>chaos</Message></Error>'
        head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        client.writer.write((head + ("" if request.words[0] == "HEAD" else body)).encode())
        await client.writer.drain()

    def _count(self, request: _Message, answer: _Message) -> None:
        if _has_written(request, answer):
            self.written[_path(request)] += 1
        elif answer.status == 412:
            self.already_there += 1


def _has_written(request: _Message, answer: _Message) -> bool:
    return request.words[0] == "PUT" and answer.status == 200


def _path(request: _Message) -> str:
    return unquote(request.words[1].partition("?")[0])


async def _read_request(client: End) -> _Message:
    head = await client.reader.readuntil(_HEAD_END)
    fields = _fields(head)
    if fields.get("expect", "").lower() == "100-continue":
        client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return _Message(head + await _read_body(client, fields, to_the_end=False), _first_line(head))


async def _read_answer(server: End, method: str) -> _Message:
    head = await server.reader.readuntil(_HEAD_END)
    while _first_line(head)[1].startswith("1"):  # 100 Continue: we have answered for it
        head = await server.reader.readuntil(_HEAD_END)
    words = _first_line(head)
    if method == "HEAD" or int(words[1]) in _NO_BODY:
        return _Message(head, words)
    return _Message(head + await _read_body(server, _fields(head), to_the_end=True), words)


async def _read_body(end: End, fields: dict[str, str], *, to_the_end: bool) -> bytes:
    if "chunked" in fields.get("transfer-encoding", ""):
        body = b""
        while True:
            line = await end.reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            body += line + await end.reader.readexactly(size + 2)
            if size == 0:
                return body
    if "content-length" in fields:
        return await end.reader.readexactly(int(fields["content-length"]))
    return await end.reader.read() if to_the_end else b""


def _first_line(head: bytes) -> list[str]:
    return head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
