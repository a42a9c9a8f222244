"""Settings shared by several processes: the local broker, the cloud's broker, and the quality of service."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from wire.errors import ConfigurationError
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFileError, TlsFiles
from wire.process.settings import Expected, File, Host, Name, Port, Secret, Settings, Switch, Text, reveal

MessagesPerSecond = Annotated[float, Field(gt=0, le=100_000), Expected("a number above 0, at most 100000")]
BytesPerSecond = Annotated[int, Field(ge=1000, le=10**10), Expected("a whole number of bytes, at least 1000")]
Protocol = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$"), Expected("1 to 255 printable ASCII characters")]
QoS = Annotated[int, Field(ge=0, le=2), Expected("0, 1 or 2")]


class DeviceSettings(Settings):
    """The settings of the processes at the edge."""

    device_id: Name = Field(default_factory=lambda: socket.gethostname().partition(".")[0], validate_default=True)
    """The device's name, which is part of its topics and of its keys in S3. Default: the host's name."""
    local_mqtt_host: Host = "broker"
    """Host name or address of the local broker."""
    local_mqtt_port: Port = 1883
    """Port of the local broker."""
    local_mqtt_username: Text | None = None
    """User name at the local broker."""
    local_mqtt_password: Secret | None = None
    """Password at the local broker."""
    local_mqtt_account_file: Annotated[Path, Expected("a path")] | None = None
    """File with the account that the local broker has made for this process: one line NAME:PASSWORD. It is read at each
    connection. It is not used if LOCAL_MQTT_USERNAME is set."""

    def local_endpoint(self) -> Endpoint:
        """Return the endpoint of the local broker."""
        return Endpoint(
            name="local broker",
            host=self.local_mqtt_host,
            port=self.local_mqtt_port,
            username=self.local_mqtt_username,
            password=reveal(self.local_mqtt_password),
            account_file=self.local_mqtt_account_file,
        )


class QosSettings(Settings):
    """The MQTT quality of service for faces."""

    mqtt_qos: QoS = 1
    """MQTT quality of service. 0: fire and forget, without outbox. 1: outbox and receipts. 2: like 1, with fewer
    duplicates between the brokers."""


class CloudBrokerSettings(Settings):
    """How to connect to the cloud's broker."""

    cloud_mqtt_host: Host
    """Host name or address of the cloud's broker."""
    cloud_mqtt_port: Port | None = None
    """Port of the cloud's broker. Default: 8883, or 1883 without TLS."""
    cloud_mqtt_tls: Switch = True
    """Whether to connect with TLS."""
    cloud_mqtt_ca_file: File | None = None
    """File with the trusted CA certificates, in PEM. Default: the system's certificates."""
    cloud_mqtt_cert_file: File | None = None
    """File with this client's certificate, in PEM."""
    cloud_mqtt_key_file: File | None = None
    """File with the key of this client's certificate, in PEM."""
    cloud_mqtt_alpn: Protocol | None = None
    """Name of the protocol to ask for in the TLS handshake (ALPN). AWS IoT Core on port 443 needs x-amzn-mqtt-ca."""
    cloud_mqtt_username: Text | None = None
    """User name at the cloud's broker."""
    cloud_mqtt_password: Secret | None = None
    """Password at the cloud's broker."""

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.cloud_mqtt_cert_file is None) != (self.cloud_mqtt_key_file is None):
            raise ValueError("CLOUD_MQTT_CERT_FILE and CLOUD_MQTT_KEY_FILE: expected both or neither")
        return self

    @property
    def cloud_certificate(self) -> Path | None:
        """The file of this client's certificate; None if it uses none."""
        return self.cloud_mqtt_cert_file if self.cloud_mqtt_tls else None

    def cloud_endpoint(self) -> Endpoint:
        """Return the endpoint of the cloud's broker.

        Raises:
            ConfigurationError: a TLS file cannot be read.
        """
        tls = None
        if self.cloud_mqtt_tls:
            tls = TlsFiles(self.cloud_mqtt_ca_file, self.cloud_mqtt_cert_file, self.cloud_mqtt_key_file)
            tls = replace(tls, alpn=self.cloud_mqtt_alpn)
            try:
                tls.context()  # a wrong file ends the process at the start; later it is only a failed attempt
            except TlsFileError as error:
                named = ", ".join(f"CLOUD_MQTT_{name.upper()} is '{path}'" for name, path in error.files.items())
                raise ConfigurationError(f"{named}: {error.expected}") from None
        return Endpoint(
            name="cloud broker",
            host=self.cloud_mqtt_host,
            port=self.cloud_mqtt_port or (8883 if tls else 1883),
            tls=tls,
            username=self.cloud_mqtt_username,
            password=reveal(self.cloud_mqtt_password),
        )


class CloudSettings(CloudBrokerSettings, QosSettings):
    """The settings of the processes that deliver faces to or from the cloud's broker."""

    cloud_mqtt_max_messages_per_second: MessagesPerSecond | None = None
    """Maximum number of messages that this process publishes to the cloud's broker per second, for a broker that
    discards more. Further ones wait. Default: unlimited."""
    cloud_mqtt_max_bytes_per_second: BytesPerSecond | None = None
    """The same for the bytes of these messages. Default: unlimited."""

    def cloud_endpoint(self) -> Endpoint:
        """Return the endpoint of the cloud's broker, with the limits of one connection.

        Raises:
            ConfigurationError: a TLS file cannot be read.
        """
        return replace(
            super().cloud_endpoint(),
            max_messages_per_second=self.cloud_mqtt_max_messages_per_second,
            max_bytes_per_second=self.cloud_mqtt_max_bytes_per_second,
        )
