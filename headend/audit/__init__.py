"""The audit trail, verified."""
