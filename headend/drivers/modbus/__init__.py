"""Modbus: meters that are read by registers, on buses that they share."""
