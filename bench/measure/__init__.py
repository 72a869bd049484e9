"""Measuring: worker processes, timing, counting, provenance."""
