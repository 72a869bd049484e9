"""An NVIDIA GPU through CuPy, and the fused solver kernel."""
