"""Custody of content: seal, redact, keep, delete."""
