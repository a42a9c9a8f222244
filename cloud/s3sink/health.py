"""When the sink is healthy: the broker is connected, and the last write to S3 succeeded."""

from cloud.s3sink.bucket import Bucket
from cloud.s3sink.sink import Sink


def health_problem(sink: Sink, bucket: Bucket) -> str | None:
    """Return why ``sink`` is unhealthy, in one line; None if it is healthy."""
    if not sink.connected:
        return "no link to the cloud broker"
    return f"S3 does not accept objects: {bucket.problem}" if bucket.problem else None
