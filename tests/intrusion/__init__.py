"""Attempted intrusions against the real brokers and the real sink, while an honest device publishes faces.

A table with the result of each intrusion is printed below the test results.
"""
