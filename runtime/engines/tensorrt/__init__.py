"""TensorRT: options, profiles, the engine cache, building, running, verification."""
