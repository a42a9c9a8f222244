"""Enrolment of this device by code: makes its key, and fetches its certificate from the cloud."""
