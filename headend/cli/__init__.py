"""The headend command line."""
