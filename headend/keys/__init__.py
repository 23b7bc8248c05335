"""Meter keys at rest (envelope encryption) and invocation counters that never go back."""
