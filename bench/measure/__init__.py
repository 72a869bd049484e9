"""Worker processes, timing, counting and provenance."""
