"""The compose file with Prometheus and Grafana, as far as it can be read."""

from typing import Any

import pytest

from demo.program import ROOT
from tests.test_images import compose


def services() -> dict[str, dict[str, Any]]:
    return dict(compose("monitoring")["services"])


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_a_service_has_minimal_privileges(name: str):
    """As the services of Facewire: nothing is published beyond this machine, and memory is limited."""
    options = services()[name]
    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges:true"]
    assert options["mem_limit"]
    assert options["logging"]["options"].keys() == {"max-size", "max-file"}
    assert all(port.startswith("127.0.0.1:") for port in options["ports"])
    assert not options["image"].endswith(":latest")
    assert ":" in options["image"]


def test_every_mounted_file_exists_and_is_read_only():
    """Docker would make a folder in the place of a file that is missing."""
    for options in (services()["prometheus"], services()["grafana"]):
        for mount in options["volumes"]:
            if mount.startswith("."):
                source, _, mode = mount.split(":")
                assert (ROOT / source).exists()
                assert mode == "ro"


def test_what_prometheus_scrapes_serves_its_metrics():
    """Each is a service of the cloud's side, in the network of Prometheus, and has the port of the configuration."""
    cloud = compose("cloud")["services"]
    for name, options in services().items():
        if name in cloud:
            assert options == {"environment": {"METRICS_PORT": 9100}}
            assert "mqtt" in cloud[name]["networks"]
    text = (ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text()
    assert {
        name for name in cloud if f"{name}:9100" in text or f"names: [{name}]" in text
    } == services().keys() & cloud.keys()
