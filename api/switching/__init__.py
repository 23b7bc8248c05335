"""Switching: where breakers stand, critical customers, the emergency stop."""
