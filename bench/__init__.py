"""Measuring: the nine systems of the paper's Table 1, replayed and counted."""
