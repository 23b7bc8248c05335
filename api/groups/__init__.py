"""Groups of meters."""
