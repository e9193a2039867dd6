"""Adapters: one file per technology that turns speech into text, text into speech or meaning."""
