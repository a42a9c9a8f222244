"""Selection: decides which frames are searched, which detections are faces, and which of their pictures are sent."""
