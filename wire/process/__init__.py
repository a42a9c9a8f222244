"""The parts that every process shares: settings, command line, lifecycle, logging, health, metrics, backoff."""
