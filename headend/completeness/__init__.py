"""Completeness as a contract: what is expected, what is missing, why, and what is done about it."""
