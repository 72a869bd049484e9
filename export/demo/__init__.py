"""A small DoSSR model, trained from scratch on procedural pictures, in the official layout."""
