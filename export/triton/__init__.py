"""Writes a model repository of NVIDIA's Triton Inference Server for a bundle."""
