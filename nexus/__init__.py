"""Nexus: a capability runtime that turns a Linux host into a sovereign node."""

__all__ = ["__version__"]

__version__ = "0.1.0"
