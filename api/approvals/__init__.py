"""Approvals: what waits for a second person."""
