"""Adapters of `vault.ports.Keyring`, named by technology; wired in the composition root only."""
