"""Trains the demo model: a small DoSSR model from procedural images, in the official layout."""
