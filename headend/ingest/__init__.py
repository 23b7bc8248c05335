"""Bounded pipeline from drivers and listeners to the store: validate, batch, write, acknowledge."""
