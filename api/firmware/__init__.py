"""Firmware packages: upload, list, one."""
