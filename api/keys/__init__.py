"""Meters' keys, in figures."""
