"""Payloads that could not be stored."""
