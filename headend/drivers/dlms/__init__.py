"""DLMS/COSEM: load curves, registers and event logs of meters that are dialled, or that dial in."""
