"""Selection: which frames are searched, which detections are faces, which pictures of them are sent."""
