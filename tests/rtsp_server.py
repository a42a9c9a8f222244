"""An RTSP server for the tests: serves one pipeline at /stream. Runs with the system's Python, which has GStreamer.

Usage: python3 rtsp_server.py PORT tcp|udp PIPELINE
"""

import sys
from importlib import import_module
from typing import Any


def serve(port: str, transport: str, pipeline: str) -> None:
    """Serve ``pipeline``, whose payloader is named pay0, until the process is ended."""
    gi: Any = import_module("gi")
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    gst, rtsp, rtsp_server, glib = (
        import_module(f"gi.repository.{name}") for name in ("Gst", "GstRtsp", "GstRtspServer", "GLib")
    )
    gst.init(None)
    server = rtsp_server.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    media = rtsp_server.RTSPMediaFactory()
    media.set_launch(f"( {pipeline} )")
    media.set_shared(True)
    media.set_protocols(rtsp.RTSPLowerTrans.TCP if transport == "tcp" else rtsp.RTSPLowerTrans.UDP)
    server.get_mount_points().add_factory("/stream", media)
    if not server.attach(None):
        sys.exit("the port is in use")
    glib.MainLoop().run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
