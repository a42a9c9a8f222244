"""Administration of the bucket by an operator: policy, retention, deletion. The sink itself may not do any of it."""
