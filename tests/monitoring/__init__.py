"""Alerts and dashboard, by Prometheus' own tools and by a real Prometheus that scrapes the whole chain."""
