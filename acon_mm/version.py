"""The version of acon_mm."""

__version__ = '0.1.0'
