"""``dossr-bench fleet``: workers of Ray against one process, and while they are killed."""
