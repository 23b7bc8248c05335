"""The audit trail: entries, and the end of their chain."""
