"""The detector's Prometheus metrics."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from edge.detector.detector import Detector
from edge.detector.stages import Stage
from wire.process import metrics

_COUNTERS = {
    "frames": ("facewire_frames_total", "Frames processed."),
    "still": ("facewire_frames_still_total", "Frames that were not searched because nothing had moved."),
    "skipped": ("facewire_frames_skipped_total", "Frames of a live camera skipped because every worker was busy."),
    "spoiled": ("facewire_frames_spoiled_total", "Frames of a live camera discarded as corrupt."),
    "reopened": ("facewire_camera_reopens_total", "Times the camera was reopened."),
    "faces": ("facewire_faces_total", "Faces detected, sent or not."),
    "doubted": ("facewire_faces_doubted_total", "Detections withheld as false positives."),
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
        for family, described in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for field, (name, meaning) in described.items():
                yield family(name, meaning, value=stats.get(field) or 0)
        problem = "Whether the outbox has a problem, such as a full disk; the status and the health check name it."
        yield GaugeMetricFamily("facewire_outbox_problem", problem, value=bool(stats.get("outbox_problem")))
        is_set = "Whether the machine's clock is set. Until then, faces wait in the outbox."
        yield GaugeMetricFamily("facewire_clock_set", is_set, value=stats["clock"] == "set")
        link = GaugeMetricFamily("facewire_link_up", "Whether the broker is connected.", labels=["broker"])
        link.add_metric(["local"], self._detector.connected)
        yield link


class DetectorMetrics:
    """The metrics of a detector, with those that it observes itself."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        meaning = "Seconds from the capture of a face to the end of a stage."
        ages = Histogram(
            "facewire_face_age_seconds", meaning, ["stage"], registry=self._registry, buckets=metrics.AGE_BUCKETS
        )
        self._ages = {stage: ages.labels(stage.value) for stage in Stage}

    def observe_age(self, stage: Stage, seconds: float) -> None:
        """Note how old a face is at the end of a stage.

        The capture times of a recording follow from its frame rate. Those that are in the future are left out.
        """
        if seconds >= 0:
            self._ages[stage].observe(seconds)

    def serve(self, detector: Detector, host: str, port: int) -> None:
        """Serve the metrics of ``detector`` and those observed; see :func:`wire.process.metrics.serve`."""
        self._registry.register(DetectorCollector(detector))
        metrics.serve(host, port, self._registry)
