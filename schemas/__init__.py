"""Shapes that everybody reads: reading batches, meters, profiles, settings, SQL. No I/O but package data."""
