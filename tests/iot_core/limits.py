"""The limits of AWS IoT Core for one connection.

Source: AWS General Reference, «AWS IoT Core endpoints and quotas», and AWS IoT Core Developer Guide, «MQTT» and
«MQTT reason codes», as of 2026.
"""

PUBLISHES_PER_SECOND = 100
"""Publishes in each direction. More of them are discarded without an answer."""
BYTES_PER_SECOND = 512 * 1024
"""Throughput in each direction. What exceeds it is processed later."""
UNACKNOWLEDGED = 100
"""QoS 1 messages without a PUBACK, in each direction."""
PAYLOAD_BYTES = 128 * 1024
PACKET_BYTES = 149_504
CLIENT_ID_BYTES = 128
TOPIC_BYTES = 256
TOPIC_SLASHES = 7
"""In a topic or a filter, without ``$share/<group>/``."""
USER_PROPERTY_BYTES = 8192
FILTERS_PER_SUBSCRIBE = 8
SUBSCRIPTIONS = 50
MIN_KEEPALIVE_SECONDS, MAX_KEEPALIVE_SECONDS = 30, 1200
MAX_SESSION_EXPIRY_SECONDS = 7 * 86_400
CONNECT_SECONDS = 1.0
"""Least interval between two CONNECTs of one client id."""
MAX_QOS = 1
TOPIC_ALIASES = 8
ALPN = "x-amzn-mqtt-ca"
"""Protocol that a client must ask for on port 443."""
