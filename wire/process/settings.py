"""Settings: environment variables, parsed once per process into one frozen object.

A settings class *is* the configuration: each field is the variable of the same name in capitals, its type
says what may stand there. All mistakes are reported at once: variable, value, what was expected. A secret may
also come from a file, named by the variable with ``_FILE`` behind it.
"""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from wire import topics
from wire.errors import ConfigurationError
from wire.mqtt.endpoint import Endpoint, TlsFiles
from wire.process import log


@dataclass(frozen=True, slots=True)
class Expected:
    """What a setting should look like, in words for the operator."""

    words: str


Name = Annotated[
    str,
    StringConstraints(pattern=f"^{topics.NAME_PATTERN}$"),
    Expected("1 to 64 letters, digits, - or _, the first a letter or digit"),
]
Text = Annotated[str, StringConstraints(min_length=1), Expected("some text")]
Host = Annotated[str, StringConstraints(pattern=r"^[^\s/]+$"), Expected("a host name or address")]
Port = Annotated[int, Field(ge=1, le=65535), Expected("a port from 1 to 65535")]
Switch = Annotated[bool, Expected("true or false")]
Fraction = Annotated[float, Field(ge=0, le=1), Expected("a number from 0 to 1")]
Seconds = Annotated[float, Field(ge=0, le=86400), Expected("seconds, from 0 to 86400")]
File = Annotated[FilePath, Expected("a file that is there")]
Secret = Annotated[SecretStr, Expected("a secret")]
QoS = Annotated[int, Field(ge=0, le=2), Expected("0, 1 or 2")]


class Settings(BaseModel):
    """What every process has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Expected("debug, info, warning or error")] = (
        "info"
    )
    """What is less important than this is not logged."""
    log_format: Annotated[Literal["console", "json"], Expected("console or json")] = "console"
    """For people, or one JSON object a line."""
    metrics_port: Port | None = None
    """Where Prometheus metrics are served. Default: nowhere."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Parse the settings out of ``environ``. An empty variable counts as unset.

        Raises:
            ConfigurationError: one line for each mistake.
        """
        mistakes: list[str] = []
        found: dict[str, str] = {}
        for field in cls.model_fields:
            text = environ.get(field.upper(), "")
            if field in cls.secrets():
                text = _secret(field.upper(), environ, mistakes)
            if text:
                found[field] = text
        try:
            settings = cls.model_validate(found)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False)
            mistakes += [cls._mistake(detail["loc"], detail["msg"], found) for detail in details]
        if mistakes:
            raise ConfigurationError("\n".join(mistakes))
        return settings

    def resolved(self) -> dict[str, str]:
        """Return every variable and its value as text, secrets starred: what is logged at the start."""
        return {field.upper(): "" if value is None else str(value) for field, value in self}

    def configure_logging(self) -> None:
        """Set up logging as these settings say."""
        log.configure(self.log_level, self.log_format)

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """Return the names of those fields that hold a secret."""
        return frozenset(
            field for field, info in cls.model_fields.items() if SecretStr in _parts(info.annotation, *info.metadata)
        )

    @classmethod
    def _mistake(cls, location: tuple[int | str, ...], message: str, found: Mapping[str, str]) -> str:
        if not location:
            return message.removeprefix("Value error, ")
        field = str(location[0])
        info = cls.model_fields[field]
        wordings = (part.words for part in _parts(info.annotation, *info.metadata) if isinstance(part, Expected))
        expected = next(wordings, message)
        if field in found:
            shown = "**********" if field in cls.secrets() else repr(found[field])
            return f"{field.upper()} is {shown}: expected {expected}"
        if info.is_required():
            return f"{field.upper()} is not set: expected {expected}"
        default = info.get_default(call_default_factory=True)
        return f"{field.upper()} is not set, and its default {default!r} will not do: expected {expected}"


def default_device_id() -> str:
    """Return the host's name, without its domain."""
    return socket.gethostname().partition(".")[0]


class DeviceSettings(Settings):
    """What the processes at the edge have."""

    device_id: Name = Field(default_factory=default_device_id, validate_default=True)
    """The device's name: a level of its topics and a part of its keys in S3. Default: the host's name."""
    local_mqtt_host: Host = "broker"
    """Where the local broker listens."""
    local_mqtt_port: Port = 1883
    local_mqtt_username: Text | None = None
    local_mqtt_password: Secret | None = None

    def local_endpoint(self) -> Endpoint:
        """Return the way to the local broker."""
        return Endpoint(
            name="local broker",
            host=self.local_mqtt_host,
            port=self.local_mqtt_port,
            username=self.local_mqtt_username,
            password=_reveal(self.local_mqtt_password),
        )


class MqttSettings(Settings):
    """How faces travel."""

    mqtt_qos: QoS = 1
    """0: fire and forget. 1: outbox and receipts. 2: as 1, with fewer duplicates on the wire."""


class CloudSettings(MqttSettings):
    """What the processes that talk to the cloud's broker have."""

    cloud_mqtt_host: Host
    """Where the cloud's broker listens."""
    cloud_mqtt_port: Port | None = None
    """Default: 8883, or 1883 without TLS."""
    cloud_mqtt_tls: Switch = True
    cloud_mqtt_ca_file: File | None = None
    """The authority that the broker's certificate must come from. Default: the system's."""
    cloud_mqtt_cert_file: File | None = None
    """This client's certificate."""
    cloud_mqtt_key_file: File | None = None
    """The key of this client's certificate."""
    cloud_mqtt_username: Text | None = None
    cloud_mqtt_password: Secret | None = None

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.cloud_mqtt_cert_file is None) != (self.cloud_mqtt_key_file is None):
            raise ValueError("CLOUD_MQTT_CERT_FILE and CLOUD_MQTT_KEY_FILE: expected both or neither")
        return self

    @property
    def cloud_certificate(self) -> Path | None:
        """The file of the certificate that this client shows; None where it shows none."""
        return self.cloud_mqtt_cert_file if self.cloud_mqtt_tls else None

    def cloud_endpoint(self) -> Endpoint:
        """Return the way to the cloud's broker.

        Raises:
            ConfigurationError: a certificate, a key or the authorities cannot be read.
        """
        tls = None
        if self.cloud_mqtt_tls:
            tls = TlsFiles(self.cloud_mqtt_ca_file, self.cloud_mqtt_cert_file, self.cloud_mqtt_key_file)
            tls.context()  # what is wrong now is told now; later it is a link that is down
        return Endpoint(
            name="cloud broker",
            host=self.cloud_mqtt_host,
            port=self.cloud_mqtt_port or (8883 if tls else 1883),
            tls=tls,
            username=self.cloud_mqtt_username,
            password=_reveal(self.cloud_mqtt_password),
        )


def _reveal(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _secret(variable: str, environ: Mapping[str, str], mistakes: list[str]) -> str:
    text, path = environ.get(variable, ""), environ.get(f"{variable}_FILE", "")
    if text and path:
        mistakes.append(f"{variable} and {variable}_FILE are both set: expected one of them")
    elif path:
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"{variable}_FILE is {path!r}: expected a file with the secret ({error})")
    return text


def _parts(annotation: Any, *metadata: Any) -> Iterator[Any]:
    """Yield a type, the types within it and what is annotated to them: ``Name | None`` holds ``Name``'s words."""
    yield from metadata
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)
