"""Metering points: installations, meter exchange, transformer ratios."""
