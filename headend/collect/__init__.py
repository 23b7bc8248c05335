"""Collects load curves from many meters with bounded concurrency."""
