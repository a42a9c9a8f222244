"""The enrolment service: takes the requests of devices that enroll by code, and hands them to the authority.

It is the only part of the authority that the Internet reaches. It runs in a container of its own, has no key but that
of its own certificate, and learns no secret: a request can neither be changed nor used by whoever sees it.
"""
