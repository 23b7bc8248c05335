"""Campaigns: programs that are applied to meters."""
