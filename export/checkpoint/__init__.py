"""The checkpoint: its configuration, its layout, its reader, synthetic ones."""
