"""``dossr-bench serve``: latency and throughput of a served model, as its clients see them."""
