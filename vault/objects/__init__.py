"""Adapters of `vault.ports.Objects`, named by technology; wired in the composition root only."""
