"""Checkpoints: configuration, layout, reader and synthetic weights."""
