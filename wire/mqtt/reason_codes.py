"""The reason codes of MQTT 5 (OASIS Standard, 7 March 2019, section 2.4)."""

from paho.mqtt.reasoncodes import ReasonCode

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
"""The broker accepted a message that has no subscriber, and discarded it."""
MIN_FAILURE_CODE = 0x80
"""Reason codes from this value on are failures."""
NOT_AUTHORIZED = 0x87
TOPIC_NAME_INVALID = 0x90
SESSION_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97
NO_SHARED_SUBSCRIPTIONS = 0x9E


def reason_text(reason_code: int) -> str:
    """Return the name of a reason code."""
    return next(iter(ReasonCode.names.get(reason_code, {})), "unknown reason")
