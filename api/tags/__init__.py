"""Tags of meters."""
