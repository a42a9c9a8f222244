"""Scrapes the metrics of a process, as Prometheus does."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from demo.ports import HOST


def scrape(port: int) -> dict[str, float]:
    """All samples, keyed by name and labels, such as ``facewire_link_up{broker=local}``."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
    }
