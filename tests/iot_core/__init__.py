"""A stand-in for AWS IoT Core in front of Mosquitto: its TLS, its policies, and its limits on every connection."""
