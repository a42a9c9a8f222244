"""The MQTT client: sessions that reconnect, publishing that waits for the broker's answer, manual acknowledgement."""
