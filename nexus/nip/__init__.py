"""Packages: signed, content-addressed, resolved by constraint."""
