"""The diffusion processes of the paper's Table 5, on DoSSR's network."""
