"""What the forwarder can be told."""

from typing import Annotated, Literal

from wire.settings import CloudSettings, DeviceSettings, Expected


class ForwarderSettings(DeviceSettings, CloudSettings):
    """The forwarder's settings."""

    receipts: Annotated[Literal["sink", "broker"], Expected("sink or broker")] = "sink"
    """Who signs for a face: the sink, once it is in S3, or the forwarder, once the cloud's broker has it."""
