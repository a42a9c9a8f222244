"""When the gallery is healthy: the broker is connected, and the last request to S3 succeeded.

It shows the faces that it knows in any case.
"""

from cloud.gallery.gallery import Gallery


def health_problem(gallery: Gallery) -> str | None:
    """Return why ``gallery`` is unhealthy, in one line; None if it is healthy."""
    if not gallery.announcements.connected:
        return "no link to the cloud broker"
    problem = gallery.bucket.problem
    return f"S3 does not answer as expected: {problem}" if problem else None
