"""The forwarder's settings."""

from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator

from wire.mqtt.broker_settings import CloudSettings, DeviceSettings
from wire.process.settings import Expected, Switch

ClientId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9:_-]{1,128}$"), Expected("1 to 128 letters, digits, :, - or _")
]

_OWN_TOPICS = ("faces", "receipts", "status")
Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,3}$"),
    Expected("1 to 4 levels of a topic, each of 1 to 64 letters, digits, - or _"),
]


class ForwarderSettings(DeviceSettings, CloudSettings):
    """The settings of ``python -m edge.forwarder``."""

    cloud_mqtt_client_id: ClientId | None = None
    """Client id at the cloud's broker. On AWS IoT Core it is the name of the thing. Facewire's own broker accepts only
    the default: facewire-forwarder-DEVICE_ID."""
    receipts: Annotated[Literal["sink", "broker"], Expected("sink or broker")] = "sink"
    """Who sends receipts. sink: s3sink, once a face is in S3. broker: the forwarder, once the cloud broker has it."""

    home_assistant: Switch | None = None
    """true: announce the device and its cameras to Home Assistant, at the local broker. false: withdraw this
    announcement. Default: neither."""
    home_assistant_prefix: Prefix = "homeassistant"
    """Discovery prefix of Home Assistant: the first part of the topics of its announcements."""

    @model_validator(mode="after")
    def _prefix_is_none_of_ours(self) -> Self:
        if self.home_assistant_prefix.partition("/")[0] in _OWN_TOPICS:
            raise ValueError(
                f"HOME_ASSISTANT_PREFIX is '{self.home_assistant_prefix}': expected another first level than "
                f"{', '.join(_OWN_TOPICS)}"
            )
        return self

    @model_validator(mode="after")
    def _receipts_need_acknowledgements(self) -> Self:
        if self.receipts == "broker" and self.mqtt_qos == 0:
            raise ValueError("RECEIPTS is 'broker' and MQTT_QOS is 0: expected 1 or 2, as QoS 0 has no acknowledgement")
        return self
