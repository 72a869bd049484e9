"""Writes a model repository of NVIDIA's Triton Inference Server for a bundle."""

from .options import SERVE_SETTINGS, RepositoryOptions, parse_serve
from .repository import check_repository, write_repository

__all__ = [
    "SERVE_SETTINGS",
    "RepositoryOptions",
    "check_repository",
    "parse_serve",
    "write_repository",
]
