"""Commands for operators: the password, and the IAM policy."""
