"""Enrolment of a device by code: the code, what is sent, and the files that the device gets."""
