"""Meters: list, one, and the states of their life cycle."""
