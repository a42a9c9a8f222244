"""The contract between edge and cloud, and what every process needs to keep it.

``wire`` imports neither ``edge`` nor ``cloud``; these import ``wire`` and never each other.
"""

__version__ = "0.1.0"
