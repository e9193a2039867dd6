"""The commands of ``vocustody``, a group a file; `gateway.cli` mounts them."""
