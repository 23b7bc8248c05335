"""Processes of the service: which there are, and what each holds."""
