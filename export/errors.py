"""What can be wrong with a checkpoint or with its export. Light: no torch is imported here."""


class CheckpointError(ValueError):
    """The file is not a checkpoint that can be exported."""


class Fp16Error(ValueError):
    """The network cannot be expressed in float16."""


class VerificationError(RuntimeError):
    """An exported file does not compute what torch computes."""
