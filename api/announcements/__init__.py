"""Announced devices: list, accept, reject."""
