"""Delivery: faces are stored in the outbox and sent until a receipt arrives."""
