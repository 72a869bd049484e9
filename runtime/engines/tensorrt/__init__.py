"""TensorRT: profiles, the engine cache, building, running, verification."""
