"""The detector: finds faces in what a camera sees and keeps each one safe until the cloud has signed for it."""

import os

# OpenCV reads these when it is first imported. What is wrong with a camera is ours to say, in one line.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
