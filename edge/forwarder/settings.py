"""What the forwarder can be told."""

from typing import Annotated, Literal, Self

from pydantic import model_validator

from wire.mqtt.broker_settings import CloudSettings, DeviceSettings
from wire.process.settings import Expected


class ForwarderSettings(DeviceSettings, CloudSettings):
    """The forwarder's settings."""

    receipts: Annotated[Literal["sink", "broker"], Expected("sink or broker")] = "sink"
    """Who signs for a face: the sink, once it is in S3, or the forwarder, once the cloud's broker has it."""

    @model_validator(mode="after")
    def _a_receipt_needs_an_answer(self) -> Self:
        if self.receipts == "broker" and self.mqtt_qos == 0:
            raise ValueError("RECEIPTS is 'broker' and MQTT_QOS is 0: expected 1 or 2, as no broker answers at 0")
        return self
