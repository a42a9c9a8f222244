"""The detector: finds faces in the frames of a camera and delivers them to the local broker."""

import os

# OpenCV reads these when it is first imported. The detector reports camera errors itself, in one line each.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_flags;prefer_tcp")  # UDP for a camera without TCP

# ONNX Runtime reads this when it is imported. By default, it collects usage data and sends it to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
