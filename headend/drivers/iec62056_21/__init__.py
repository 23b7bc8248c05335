"""Readouts of IEC 62056-21, modes A to D."""
