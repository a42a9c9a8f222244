"""The MQTT client: sessions that reconnect, publishing with a positive answer, manual acknowledgement."""
