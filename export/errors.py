"""Errors of an export that a caller may catch. Nothing heavy is imported here."""


class CheckpointError(ValueError):
    """The file is not a checkpoint that can be exported."""


class Fp16Error(ValueError):
    """A weight exceeds the range of float16."""


class VerificationError(RuntimeError):
    """An exported network cannot be run, or differs from torch by more than its bound."""
