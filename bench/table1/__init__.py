"""``dossr-bench table1``: the systems of the paper's Table 1."""
