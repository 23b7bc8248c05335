"""Byte streams: TCP, serial, UDP and their framing into APDUs, with a deadline on every wait."""
