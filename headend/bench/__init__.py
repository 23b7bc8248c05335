"""Benchmarks as ratios in one run: our product path beside its peers, on the same bytes and the same machine.

Everything is measured in processes of its own that take turns, so that a machine that slows down slows all of
them down. The peers live in tests/benchmarks, outside of the product.
"""
