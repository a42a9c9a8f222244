"""The sink's metrics and its health."""

from cloud.s3sink.bucket import Bucket
from cloud.s3sink.sink import Sink
from wire.mqtt.certificate_expiry import certificate_expires
from wire.process.metrics import Metric, counter, gauge


def metrics_of(sink: Sink) -> list[Metric]:
    """Return what Prometheus is told of ``sink``; how long writes take is the bucket's own metric."""
    counts = sink.counts
    return [
        counter("facewire_objects_written_total", "Faces and pictures written.", lambda: counts.written),
        counter("facewire_objects_already_there_total", "Copies, found stored.", lambda: counts.already_there),
        counter("facewire_objects_quarantined_total", "Messages in quarantine.", lambda: counts.quarantined),
        counter("facewire_objects_refused_total", "Messages refused by S3.", lambda: counts.refused),
        counter("facewire_messages_dropped_total", "QoS 0 beyond what is held.", lambda: counts.dropped),
        counter("facewire_messages_turned_away_total", "Beyond a device's share.", lambda: counts.turned_away),
        gauge("facewire_writes_underway", "Messages not yet acknowledged.", lambda: sink.underway),
        gauge("facewire_link_up", "Whether the link to a broker is up.", lambda: sink.linked, broker="cloud"),
        certificate_expires(sink.certificate),
    ]


def health_problem(sink: Sink, bucket: Bucket) -> str | None:
    """Return what hinders ``sink``; None where it makes progress."""
    if not sink.linked:
        return "no link to the cloud broker"
    return f"S3 does not take objects: {bucket.problem}" if bucket.problem else None
