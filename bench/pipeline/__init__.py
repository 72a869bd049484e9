"""``dossr-bench pipeline``: DoSSR in torch against its bundles."""
