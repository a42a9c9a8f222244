"""The programs of the edge: the detector, the forwarder, and the configuration of the local broker."""
