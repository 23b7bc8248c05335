"""The other end: simulated meters over the same codecs. Never imports headend."""
