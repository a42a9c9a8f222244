"""The gallery's Prometheus metrics, and those of the devices and cameras whose status it receives."""

import math
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud.gallery.devices import DeviceStatus
from cloud.gallery.gallery import Gallery
from wire.mqtt.certificate_expiry import CertificateExpiry, expiry_metric
from wire.timestamps import parse_time


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
        yield from _of_devices(gallery.devices.snapshot())


def _of_devices(devices: dict[str, DeviceStatus]) -> Iterable[Metric]:
    """Return the metrics of all devices and cameras. What a status does not say is NaN."""

    def gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, meaning, labels=["device", *labels])

    online = gauge("facewire_device_online", "1 if the device sends its status, 0 if it is silent.")
    expires = gauge("facewire_device_certificate_expires_timestamp_seconds", "When the device's certificate expires.")
    camera_online = gauge("facewire_camera_online", "1 if the camera's detector sends its status.", "camera")
    frames = gauge("facewire_camera_frames_per_second", "Frames per second between the last two statuses.", "camera")
    waiting = gauge("facewire_camera_outbox_faces", "Faces in the outbox, as the last status says.", "camera")
    dropped = gauge("facewire_camera_faces_dropped", "Faces dropped from a full outbox, as it says.", "camera")
    for device, known in devices.items():
        online.add_metric([device], known.online)
        ends = known.certificate_expires
        expires.add_metric([device], math.nan if ends is None else parse_time(ends).timestamp())
        for camera, one in known.cameras.items():
            camera_online.add_metric([device, camera], one.online)
            for family, value in ((frames, one.frames_per_second), (waiting, one.waiting), (dropped, one.dropped)):
                family.add_metric([device, camera], math.nan if value is None else value)
    return online, expires, camera_online, frames, waiting, dropped
