"""The settings of the administration commands."""

from cloud.bucket_settings import BucketSettings
from cloud.gallery.settings import FolderSettings


class AdminSettings(FolderSettings, BucketSettings):
    """The settings of all commands. ``password`` needs no bucket, and ``policy`` no folder."""
