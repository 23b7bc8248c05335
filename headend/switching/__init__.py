"""Switching customers off and on, limits of their load, and the rules that stand before both."""
