"""What runs beside the camera: the detector, the local broker's configuration and the forwarder."""
