"""``dossr-bench table1``: count or time the systems of the paper's Table 1."""
