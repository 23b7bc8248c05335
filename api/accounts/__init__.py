"""Accounts of people, their states and roles."""
