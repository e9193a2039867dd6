"""A tamper-evident trail of every touch; knows nothing of voice, vendors or HTTP."""
