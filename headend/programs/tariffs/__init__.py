"""Tariff programs brought to meters, and what meters had from when to when."""
