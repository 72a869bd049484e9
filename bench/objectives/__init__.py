"""``dossr-bench objectives``: demo models that were trained for different diffusion processes, compared."""
