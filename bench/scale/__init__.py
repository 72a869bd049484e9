"""``dossr-bench scale``: many images on many GPUs, simulated."""
