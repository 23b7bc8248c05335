"""Firmware packages: what a maker's image is, for whom, and who says so."""
