"""Storage of the outbox: a SQLite file that stays usable whatever the disk does."""
