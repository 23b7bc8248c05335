"""Firmware brought to meters: what comes next, apart from how it is done."""
