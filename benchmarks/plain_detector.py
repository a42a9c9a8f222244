"""``python -m benchmarks.plain_detector FILM HOST PORT USERNAME PASSWORD``: the plain program beside the detector.

It finds the faces in each frame of a film with ``cv2.FaceDetectorYN``, with OpenCV's own threads, and publishes each as
a JPEG: without outbox, tracks, selection and receipts. Prints the number of frames.
"""

import sys
from typing import Any

import cv2
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.peers import MODEL


def main(film: str, host: str, port: str, username: str, password: str) -> None:
    """Search every frame of ``film``, and publish the faces to the broker."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(username, password)
    client.connect(host, int(port))
    client.loop_start()
    capture = cv2.VideoCapture(film)
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    network = cv2.FaceDetectorYN.create(str(MODEL), "", size, 0.7, 0.3, 5000)
    frames = 0
    while True:
        read, image = capture.read()
        if not read:
            break
        frames += 1
        found: Any = network.detect(image)[1]
        for x, y, width, height in [] if found is None else found[:, :4].astype(int).clip(0).tolist():
            jpeg: Any = cv2.imencode(".jpg", image[y : y + height, x : x + width])[1]
            client.publish("plain/faces", jpeg.tobytes())
    client.disconnect()
    client.loop_stop()
    print(frames)


if __name__ == "__main__":
    main(*sys.argv[1:])
