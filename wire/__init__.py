"""The contract between edge and cloud, and the code that every process shares.

``wire`` imports neither ``edge`` nor ``cloud``. These two import ``wire``, but never each other.
"""

__version__ = "0.1.0"
