"""What both sides say to each other: the contract, and the MQTT session that carries it.

``wire`` depends on nothing of ours. ``edge`` and ``cloud`` depend on ``wire`` and never on each other.
"""
