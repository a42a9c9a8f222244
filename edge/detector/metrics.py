"""The detector's Prometheus metrics."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from edge.detector.detector import Detector

_COUNTERS = {
    "frames": ("facewire_frames_total", "Frames processed."),
    "still": ("facewire_frames_still_total", "Frames that were not searched because nothing had moved."),
    "skipped": ("facewire_frames_skipped_total", "Frames of a live camera skipped because every worker was busy."),
    "spoiled": ("facewire_frames_spoiled_total", "Frames of a live camera discarded as corrupt."),
    "reopened": ("facewire_camera_reopens_total", "Times the camera was reopened."),
    "faces": ("facewire_faces_total", "Faces detected, sent or not."),
    "doubted": ("facewire_faces_doubted_total", "Detections rejected as false positives."),
    "sent": ("facewire_faces_due_total", "Faces handed over for delivery."),
    "published": ("facewire_faces_published_total", "Faces published, including resent ones."),
    "resent": ("facewire_faces_resent_total", "Faces published again."),
    "receipted": ("facewire_faces_receipted_total", "Faces whose receipt has arrived."),
    "unkept": ("facewire_faces_unkept_total", "Faces that could not be stored in the outbox."),
    "damaged": ("facewire_outbox_damaged_total", "Faces set aside because their data on disk had changed."),
}
"""Name and help of a metric, by its field in the detector's statistics."""
_GAUGES = {
    "dropped": ("facewire_faces_dropped", "Faces dropped from a full outbox and not receipted since."),
    "underway": ("facewire_faces_underway", "Faces published whose receipt has not arrived."),
    "outbox": ("facewire_outbox_faces", "Faces in the outbox."),
    "outbox_bytes": ("facewire_outbox_bytes", "Bytes that these faces use in the outbox file."),
    "untimed": ("facewire_outbox_untimed", "Faces in the outbox that wait until the clock is set."),
    "commit_seconds": ("facewire_outbox_commit_seconds", "Seconds that the last commit to the outbox took."),
}


class DetectorCollector(Collector):
    """Collects the metrics of a detector."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def collect(self) -> Iterable[Metric]:
        """Return every metric. All values come from one snapshot, so frames and faces agree."""
        stats = self._detector.stats()
        for family, metrics in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for field, (name, meaning) in metrics.items():
                yield family(name, meaning, value=stats.get(field) or 0)
        problem = "Whether the outbox has a problem, such as a full disk; the status and the health check name it."
        yield GaugeMetricFamily("facewire_outbox_problem", problem, value=bool(stats.get("outbox_problem")))
        is_set = "Whether the machine's clock is set. Until then, faces wait in the outbox."
        yield GaugeMetricFamily("facewire_clock_set", is_set, value=stats["clock"] == "set")
        link = GaugeMetricFamily("facewire_link_up", "Whether the broker is connected.", labels=["broker"])
        link.add_metric(["local"], self._detector.connected)
        yield link
