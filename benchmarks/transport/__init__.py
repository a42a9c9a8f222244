"""A link, a publisher and a subscriber, each in a process of its own, to measure what forwards between two brokers."""
