"""The thief: a device with a valid certificate does its worst, while honest devices send faces to the same cloud."""
