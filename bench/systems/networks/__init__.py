"""The architectures of the systems."""
