"""The demonstration world: everything outside the gateway, played by real code on loopback."""
