"""Voice notes as bytes: the container, decoding, voice activity, and our own spoken replies."""
