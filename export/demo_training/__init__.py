"""A small DoSSR model, trained from scratch on procedural images, in the official layout."""
