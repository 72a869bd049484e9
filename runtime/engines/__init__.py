"""Engines run networks: one folder for each library."""
