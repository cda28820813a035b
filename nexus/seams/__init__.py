"""Protocols for every resource an engine may need; interfaces only, no behaviour."""
