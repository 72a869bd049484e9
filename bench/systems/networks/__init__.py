"""Architectures of the systems."""
