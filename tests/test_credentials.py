"""Nothing that may be a credential is logged or printed, in whatever form it is written."""

import pytest

from wire.process.credentials import STARS, without_credentials

SECRET = "hush"
RANDOM = "Vb7qCkXw2mJt9zRe"
HOST = "10.0.0.9"

ADDRESSES = {
    "Hikvision": "rtsp://admin:hush@10.0.0.9:554/Streaming/Channels/101",
    "Hikvision, in the query": "rtsp://10.0.0.9:554/Streaming/Channels/101?auth=hush==&transportmode=unicast",
    "Hikvision, an old one": "rtsp://admin:hush@10.0.0.9/h264/ch1/main/av_stream",
    "Dahua": "rtsp://admin:hush@10.0.0.9/cam/realmonitor?channel=1&subtype=0",
    "Dahua, in the query": "rtsp://10.0.0.9/cam/realmonitor?channel=1&subtype=0&proto=Onvif&user=admin&password=hush",
    "Reolink": "rtsp://admin:hush@10.0.0.9:554/h264Preview_01_main",
    "Reolink, FLV": "http://10.0.0.9/flv?port=1935&app=bcs&stream=channel0_main.bcs&user=admin&password=hush",
    "Reolink, RTMP": "rtmp://10.0.0.9/bcs/channel0_main.bcs?channel=0&stream=0&user=admin&password=hush",
    "Reolink, token": "rtmp://10.0.0.9/bcs/channel0_main.bcs?channel=0&stream=0&token=hush",
    "Axis": "rtsp://root:hush@10.0.0.9/axis-media/media.amp?videocodec=h264",
    "Axis, MJPEG": "http://root:hush@10.0.0.9/axis-cgi/mjpg/video.cgi?resolution=640x480",
    "ONVIF": "onvif://admin:hush@10.0.0.9:80?subtype=MainStreamProfile",
    "Foscam": "http://10.0.0.9:88/cgi-bin/CGIProxy.fcgi?cmd=snapPicture2&usr=admin&pwd=hush",
    "Foscam, an old one": "http://10.0.0.9/videostream.cgi?user=admin&pwd=hush&resolution=32",
    "Wansview": "http://10.0.0.9/videostream.cgi?loginuse=admin&loginpas=hush",
    "XMeye, in the path": "rtsp://10.0.0.9:554/user=admin&password=hush&channel=1&stream=0.sdp?real_stream",
    "XMeye, underscores": "rtsp://10.0.0.9:554/user=admin_password=hush_channel=1_stream=0.sdp?real_stream",
    "in the path": "rtsp://10.0.0.9/user=admin&password=hush/stream",
    "semicolons": "http://10.0.0.9/cgi-bin/video.cgi;ch=1;user=admin;pwd=hush",
    "Panasonic": "http://10.0.0.9/nphMotionJpeg?Resolution=640x480&UserName=admin&PassWord=hush",
    "Tapo": "rtsp://admin:hush@10.0.0.9:554/stream1",
    "UniFi Protect": f"rtsps://10.0.0.9:7441/{RANDOM}?enableSrtp",
    "Shinobi": f"http://10.0.0.9:8080/{RANDOM}/mjpeg/group/door",
    "Nest": "rtsps://10.0.0.9:443/CAES?auth=g.0.hush",
    "Arlo": "rtsp://10.0.0.9/vzmodulelive/C1?egressToken=hush&cameraId=C1",
    "Synology": "http://10.0.0.9:5000/webapi/entry.cgi?api=SYNO.SurveillanceStation.Stream&StmKey=%22hush%22&_sid=hush",
    "Blue Iris": "http://10.0.0.9:81/mjpg/door/video.mjpg?user=admin&pw=hush",
    "ZoneMinder": "http://10.0.0.9/zm/cgi-bin/nph-zms?mode=jpeg&monitor=1&user=admin&pass=hush",
    "Home Assistant": "http://10.0.0.9:8123/api/camera_proxy_stream/camera.door?token=hush",
    "MediaMTX": "rtsp://10.0.0.9:8554/door?jwt=hush",
    "MediaMTX, SRT": "srt://10.0.0.9:8890?streamid=read:door:admin:hush&pkt_size=1316",
    "SRT": "srt://10.0.0.9:9000?mode=caller&passphrase=hush",
    "go2rtc": "ffmpeg:rtsp://admin:hush@10.0.0.9/stream#video=h264#hardware",
    "go2rtc, an address in the query": "http://10.0.0.9:1984/api/stream.mp4?src=rtsp%3A%2F%2Fadmin%3Ahush%4010.0.0.8%2Fs",
    "go2rtc, header": "http://10.0.0.9/stream#header=Authorization: Bearer hush",
    "go2rtc, only a password": "tapo://hush@10.0.0.9",
    "PHP": "http://10.0.0.9/live.php?PHPSESSID=hush&camera=1",
    "session": "http://10.0.0.9/live?camera=1&session_id=hush",
    "S3": "https://10.0.0.9/f.mp4?X-Amz-Credential=hush%2F20261122&X-Amz-Date=20261122T000000Z&X-Amz-Signature=hush",
    "Azure": "https://10.0.0.9/film.mp4?sv=2022-11-02&sr=b&sig=hush%3D",
    "CloudFront": "https://10.0.0.9/film.mp4?Expires=1&Signature=hush&Key-Pair-Id=K1",
    "Alibaba": "rtmp://10.0.0.9/live/door?auth_key=1-0-0-hush",
    "secret": "rtmp://10.0.0.9/live/door?txSecret=hush&txTime=1",
    "API key": "https://10.0.0.9/stream?api_key=hush",
    "@ in the password": "rtsp://admin:p@hush@10.0.0.9/s",
    "/ in the password": "rtsp://admin:pa/hush@10.0.0.9/s",
    "? and # in the password": "rtsp://admin:pa?x#hush@10.0.0.9/s",
    "a space in the password": "rtsp://admin:my hush@10.0.0.9/s",
    "a space in the query": "http://10.0.0.9/s?pwd=my hush&x=1",
    "%40 in the password": "rtsp://admin:p%40hush@10.0.0.9/s",
    "an unknown scheme": "rtps://admin:hush@10.0.0.9/s",
    "no scheme": "admin:hush@10.0.0.9/s",
    "one slash": "rtsp:/admin:hush@10.0.0.9/s",
    "IPv6": "rtsp://admin:hush@[::ffff:10.0.0.9]:554/s",
    "malformed": "rtsp://admin:hush@[10.0.0.9/s",
    "GStreamer": "gstreamer:rtspsrc location=rtsp://admin:hush@10.0.0.9/s latency=0 ! appsink",
    "GStreamer, properties": 'gstreamer:rtspsrc location="rtsp://10.0.0.9/s" user-id=a user-pw="hush hush" ! appsink',
    "GStreamer, proxy": "gstreamer:souphttpsrc location=http://10.0.0.9/s proxy-id=a proxy-pw = hush ! appsink",
    "GStreamer, header": (
        r'gstreamer:souphttpsrc location=http://10.0.0.9/s extra-headers="Authorization=(string)\"Basic hush\"" ! x'
    ),
    "quoted in a message": "CAMERA_SOURCE is 'rtsp://10.0.0.9/s?pwd=hush': expected a camera that can be opened",
    "quoted in a message, no scheme": "CAMERA_SOURCE is 'admin:hush@10.0.0.9/s': expected a camera",
    "two in a message": "http://a:hush@10.0.0.9/1 and rtsp://b:hush@10.0.0.9/2 failed",
}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_credentials_are_starred(kind: str):
    """The host is shown."""
    shown = without_credentials(ADDRESSES[kind])
    assert SECRET not in shown
    assert RANDOM not in shown
    assert HOST in shown
    assert STARS in shown


@pytest.mark.parametrize(
    "text",
    [
        "/dev/video0",
        "media/Film 2.mp4",
        "rtsp://10.0.0.9:554/Streaming/Channels/101?transportmode=unicast&profile=Profile_1",
        "http://10.0.0.9/mjpg/video.mjpg?resolution=640x480&fps=10",
        "gstreamer:nvarguscamerasrc ! video/x-raw(memory:NVMM),width=1280,framerate=30/1 ! nvvidconv ! appsink drop=1",
        "faces/device=jetson-1/camera=door/date=2026-11-22/150405.123Z-01a203c9-2b03-7c41-9d0e-5b1c2a7d4e90.jpg",
        "the server rejected the client certificate (alert: certificate revoked)",
        "DEVICE_ID is 'a:b', expected 1 to 64 letters",
        "disk full: 4096 bytes are free, and 2097152 of them are left to others",
    ],
)
def test_other_text_is_shown_as_it_is(text: str):
    """Also paths, pipelines and keys in S3."""
    assert without_credentials(text) == text
