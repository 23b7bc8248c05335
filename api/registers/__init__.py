"""Registers of meters: the latest values, and the history of one OBIS code."""
