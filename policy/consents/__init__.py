"""Ledgers of consents, by technology."""
