"""The bundle: a folder with a manifest, graphs, weights and golden vectors.

Export writes bundles and the runtime reads them.
"""

from .golden import GoldenCase, check_golden, relative_error
from .integrity import DEMO, Bundle, open_bundle, sha256
from .manifest import (
    CONDITION,
    GOLDEN,
    MANIFEST,
    REQUIRED_STAGES,
    TARGETS,
    ActivationRecord,
    FileRecord,
    GoldenRecord,
    Int8Record,
    Manifest,
    Precision,
    StageRecord,
    Target,
    read_manifest,
)
from .placeholders import placeholder

__all__ = [
    "CONDITION",
    "DEMO",
    "GOLDEN",
    "MANIFEST",
    "REQUIRED_STAGES",
    "TARGETS",
    "ActivationRecord",
    "Bundle",
    "FileRecord",
    "GoldenCase",
    "GoldenRecord",
    "Int8Record",
    "Manifest",
    "Precision",
    "StageRecord",
    "Target",
    "check_golden",
    "open_bundle",
    "placeholder",
    "read_manifest",
    "relative_error",
    "sha256",
]
