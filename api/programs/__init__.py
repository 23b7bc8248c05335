"""Programs: what can be applied to meters."""
