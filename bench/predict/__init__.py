"""``dossr-bench predict``: bounds on latency, memory and energy on devices that are not here."""
