"""The face detection model: a frame in, detections out."""
