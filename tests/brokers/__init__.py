"""Runs the whole chain against other brokers than Mosquitto, kills their nodes, and counts the faces."""
