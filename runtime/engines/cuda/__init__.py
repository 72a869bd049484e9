"""NVIDIA GPUs through CuPy, and the fused solver kernel."""
