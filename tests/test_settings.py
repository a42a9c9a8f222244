"""Settings: all mistakes are reported at once, and secrets come from files and are never logged."""

from pathlib import Path

import pytest

from cloud.s3sink.settings import SinkSettings
from edge.detector.settings import DetectorSettings
from edge.forwarder.settings import ForwarderSettings
from wire.errors import ConfigurationError
from wire.process.settings import Settings


def mistakes_of(cls: type[Settings], environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        cls.from_environment(environ)
    return str(caught.value).splitlines()


def test_all_mistakes_are_reported_at_once():
    """Each with its variable, its value and what was expected."""
    lines = mistakes_of(
        DetectorSettings,
        {
            "FACE_CONFIDENCE": "1.7",
            "DETECT_SIZE": "large",
            "CAMERA_NAME": "front/door",
            "CAMERA_LOOP": "perhaps",
            "DEVICE_ID": "x" * 65,
            "MQTT_QOS": "3",
            "FACE_MAX_BYTES": "200000",
        },
    )
    assert sorted(lines) == [
        "CAMERA_LOOP is 'perhaps': expected true or false",
        "CAMERA_NAME is 'front/door': expected 1 to 64 letters, digits, - or _, the first a letter or digit",
        "DETECT_SIZE is 'large': expected pixels from 32 to 4096",
        f"DEVICE_ID is '{'x' * 65}': expected 1 to 64 letters, digits, - or _, the first a letter or digit",
        "FACE_CONFIDENCE is '1.7': expected a number from 0 to 1",
        "FACE_MAX_BYTES is '200000': expected bytes from 4096 to 131072",
        "MQTT_QOS is '3': expected 0, 1 or 2",
    ]


def test_a_required_setting_that_is_missing_is_named():
    """An empty variable counts as missing. Compose passes unset variables as empty ones."""
    assert mistakes_of(SinkSettings, {"S3_BUCKET": ""}) == [
        "CLOUD_MQTT_HOST is not set: expected a host name or address",
        "S3_BUCKET is not set: expected the name of an S3 bucket: 3 to 63 lower-case letters, digits, dots and dashes",
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"DEVICE_LATITUDE": "41.8"},
        {"DEVICE_LATITUDE": "91", "DEVICE_LONGITUDE": "0"},
        {"FACE_INTERVAL": "nan"},
        {"FACE_INTERVAL": "-1"},
        {"RESEND_AFTER": "inf"},
        {"LOCAL_MQTT_PORT": "0"},
        {"OUTBOX_MAX_BYTES": "5"},
        {"LOG_LEVEL": "loud"},
    ],
)
def test_a_wrong_value_is_rejected(environ: dict[str, str]):
    """In one line that names the variable."""
    (line,) = mistakes_of(DetectorSettings, environ)
    assert next(iter(environ)) in line


def test_a_certificate_needs_its_key(tmp_path: Path):
    """And a key needs its certificate."""
    file = tmp_path / "device.crt"
    file.touch()
    (line,) = mistakes_of(ForwarderSettings, {"CLOUD_MQTT_HOST": "x", "CLOUD_MQTT_CERT_FILE": str(file)})
    assert "CLOUD_MQTT_KEY_FILE" in line


def test_receipts_of_the_broker_need_qos_1_or_2():
    """At QoS 0 the broker does not answer, so the detector would delete faces that may be lost."""
    (line,) = mistakes_of(ForwarderSettings, {"CLOUD_MQTT_HOST": "x", "RECEIPTS": "broker", "MQTT_QOS": "0"})
    assert "RECEIPTS" in line


def test_an_invalid_certificate_file_is_named(tmp_path: Path):
    """When the endpoint is created, before anything is connected."""
    file = tmp_path / "ca.crt"
    file.write_text("not a certificate")
    settings = ForwarderSettings.from_environment({"CLOUD_MQTT_HOST": "x", "CLOUD_MQTT_CA_FILE": str(file)})
    with pytest.raises(ConfigurationError, match="CLOUD_MQTT_CA_FILE"):
        settings.cloud_endpoint()


def test_a_secret_comes_from_a_file(tmp_path: Path):
    """A line break at its end is ignored."""
    file = tmp_path / "password"
    file.write_text("hush\n")
    settings = DetectorSettings.from_environment({"LOCAL_MQTT_PASSWORD_FILE": str(file)})
    assert settings.local_endpoint().password == "hush"
    (line,) = mistakes_of(DetectorSettings, {"LOCAL_MQTT_PASSWORD_FILE": str(tmp_path / "none")})
    assert line.startswith("LOCAL_MQTT_PASSWORD_FILE")
    (line,) = mistakes_of(DetectorSettings, {"LOCAL_MQTT_PASSWORD": "a", "LOCAL_MQTT_PASSWORD_FILE": str(file)})
    assert "both set" in line


def test_the_address_of_a_camera_comes_from_a_file(tmp_path: Path):
    """It may contain a password, so a mistake does not show it."""
    file = tmp_path / "camera"
    file.write_text("rtsp://admin:hush@10.0.0.9/stream\n")
    settings = DetectorSettings.from_environment({"CAMERA_SOURCE_FILE": str(file)})
    assert settings.camera_source == "rtsp://admin:hush@10.0.0.9/stream"


def test_secrets_are_masked_in_the_log():
    """Also a password in a camera's address."""
    settings = DetectorSettings.from_environment(
        {"LOCAL_MQTT_PASSWORD": "hush", "CAMERA_SOURCE": "rtsp://admin:hush@10.0.0.9/stream"}
    )
    assert "hush" not in str(settings.resolved())
    assert "hush" not in repr(settings.local_endpoint())
    assert settings.resolved()["CAMERA_SOURCE"] == "rtsp://**********@10.0.0.9/stream"


def test_the_default_of_the_cloud_port_depends_on_tls():
    """8883 with TLS, 1883 without."""

    def port_of(**environ: str) -> int:
        return ForwarderSettings.from_environment({"CLOUD_MQTT_HOST": "x"} | environ).cloud_endpoint().port

    assert port_of() == 8883
    assert port_of(CLOUD_MQTT_TLS="false") == 1883
    assert port_of(CLOUD_MQTT_TLS="false", CLOUD_MQTT_PORT="2883") == 2883


def test_limits_and_identity_at_the_cloud_are_checked():
    """They are for brokers such as AWS IoT Core."""
    environ = {
        "CLOUD_MQTT_HOST": "broker",
        "CLOUD_MQTT_ALPN": "two words",
        "CLOUD_MQTT_CLIENT_ID": "jetson/1",
        "CLOUD_MQTT_MAX_MESSAGES_PER_SECOND": "0",
        "CLOUD_MQTT_MAX_BYTES_PER_SECOND": "512k",
    }
    assert sorted(mistakes_of(ForwarderSettings, environ)) == [
        "CLOUD_MQTT_ALPN is 'two words': expected 1 to 255 printable ASCII characters",
        "CLOUD_MQTT_CLIENT_ID is 'jetson/1': expected 1 to 128 letters, digits, :, - or _",
        "CLOUD_MQTT_MAX_BYTES_PER_SECOND is '512k': expected a whole number of bytes, at least 1000",
        "CLOUD_MQTT_MAX_MESSAGES_PER_SECOND is '0': expected a number above 0, at most 100000",
    ]


def test_the_limits_of_a_connection_are_those_of_the_settings():
    """A sink has them, too."""
    environ = {"CLOUD_MQTT_HOST": "broker", "S3_BUCKET": "faces", "CLOUD_MQTT_MAX_MESSAGES_PER_SECOND": "90"}
    endpoint = SinkSettings.from_environment(environ).cloud_endpoint()
    assert (endpoint.max_messages_per_second, endpoint.max_bytes_per_second) == (90, None)
