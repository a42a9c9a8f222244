"""S3 servers that behave differently from AWS, made of a real one and a proxy in front of it."""

from typing import TYPE_CHECKING

from tests.chaos.s3proxy import Answer, S3Fault, S3Proxy, _Message, _object_path

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class NotImplementedStore(S3Proxy):
    """It answers 501 to every conditional write, as Alibaba OSS does."""

    def _draw_fault(self, request: _Message) -> S3Fault | None:
        if _is_conditional(request):
            return S3Fault(Answer.NOT_IMPLEMENTED, after=False, share=1.0)
        return super()._draw_fault(request)


class NotModifiedStore(S3Proxy):
    """It answers 304 instead of 412 to a write of an object that exists, as older versions of MinIO do."""

    async def _forward(self, request: _Message) -> _Message:
        response = await super()._forward(request)
        if response.status != 412:
            return response
        raw = b"HTTP/1.1 304 Not Modified\r\n\r\n"
        return _Message(raw, ["HTTP/1.1", "304", "Not Modified"])


class IgnoringStore(S3Proxy):
    """It ignores the condition of a write, and overwrites the object."""

    client: "S3Client"

    async def _forward(self, request: _Message) -> _Message:
        if not _is_conditional(request):
            return await super()._forward(request)
        head, _, body = request.raw.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
        metadata = {
            name.lower().removeprefix("x-amz-meta-"): value
            for name, value in lines
            if name.lower().startswith("x-amz-meta-")
        }
        _, bucket, key = _object_path(request).split("/", 2)
        self.client.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)
        return _Message(b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n', ["HTTP/1.1", "200", "OK"])


def _is_conditional(request: _Message) -> bool:
    return request.words[0] == "PUT" and b"if-none-match" in request.raw.partition(b"\r\n\r\n")[0].lower()
