"""Delivery: stores faces in the outbox and sends them until their receipts arrive."""
