"""What ``--backend`` names: who runs the networks, and in which precision."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A backend in one precision, as a row of the results has it."""

    backend: str
    precision: str


VARIANTS = {
    "torch": Variant("torch", "fp32"),
    "torch-tf32": Variant("torch", "tf32"),
    "torch-fp16": Variant("torch", "fp16"),
    "torch-bf16": Variant("torch", "bf16"),
    "torch-compile": Variant("torch-compile", "fp32"),
    "torch-compile-fp16": Variant("torch-compile", "fp16"),
    "onnx": Variant("onnx", "fp32"),
}
"""By the name on the command line."""
