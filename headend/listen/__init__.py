"""Inbound: pushed Data-Notifications and meters that dial in."""
