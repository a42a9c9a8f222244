"""What an operator does with the bucket: policy, retention, deletion. The sink itself can do none of it."""
