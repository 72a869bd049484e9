"""``dossr-bench formulations`` and ``samplers``: the paper's Tables 5 and 6, which vary one part of DoSSR."""
