"""Drives an association over a transport: open, read, release; deadlines, retry, limits."""
