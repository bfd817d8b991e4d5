"""The version of Pneumoscope."""

__version__ = "0.2.0"
