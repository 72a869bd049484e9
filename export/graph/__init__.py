"""The ONNX graph: tracing, and one file for each pass."""
