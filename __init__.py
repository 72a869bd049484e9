"""dossr: DoSSR diffusion super-resolution, exported to ONNX and run without torch."""

__version__ = "0.1.0"
