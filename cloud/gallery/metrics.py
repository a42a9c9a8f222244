"""The gallery's Prometheus metrics."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud.gallery.gallery import Gallery
from wire.mqtt.certificate_expiry import CertificateExpiry, expiry_metric


class GalleryCollector(Collector):
    """Collects the metrics of a gallery."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._certificate = CertificateExpiry(gallery.settings.cloud_certificate)

    def collect(self) -> Iterable[Metric]:
        """Return every metric."""
        gallery = self._gallery
        filling, announcements = gallery.filling, gallery.announcements
        for name, meaning, value in (
            ("facewire_gallery_faces", "Faces in the index.", gallery.index.count),
            ("facewire_gallery_index_bytes", "Size of the index.", gallery.index.file_bytes),
            (
                "facewire_gallery_faces_undescribed",
                "Faces whose attributes have not been read from S3.",
                gallery.index.undescribed_count(),
            ),
            ("facewire_gallery_open_pages", "Pages that receive new faces.", gallery.changes.readers),
            ("facewire_s3_up", "1 if the last request to S3 succeeded.", int(gallery.bucket.problem is None)),
        ):
            yield GaugeMetricFamily(name, meaning, value)
        link = GaugeMetricFamily("facewire_link_up", "1 if the broker is connected.", labels=["broker"])
        link.add_metric(["cloud"], int(announcements.connected))
        yield link
        for name, meaning, value in (
            ("facewire_gallery_listed_total", "Faces that S3 has listed.", filling.comparison.listed),
            ("facewire_gallery_described_total", "Faces described from S3.", filling.descriptions.described),
            ("facewire_announcements_dropped_total", "Announcements dropped from a full queue.", announcements.dropped),
            ("facewire_announcements_invalid_total", "Announcements that are not valid.", announcements.invalid),
        ):
            yield CounterMetricFamily(name, meaning, value)
        yield expiry_metric(self._certificate)
