"""What every process has: settings, commands, start and stop, log, health, metrics, retries."""
