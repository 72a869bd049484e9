"""``--precision``: the numbers in which the networks compute on a processor."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Choice = Literal["auto", "fp32", "bf16", "int8"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True)
class PrecisionOptions:
    """What was asked for: one choice for all stages, others for single stages."""

    default: Choice = "auto"
    stages: Mapping[str, Choice] = field(default_factory=dict)

    def of(self, stage: str) -> Choice:
        """Return the choice for a stage."""
        return self.stages.get(stage, self.default)

    def check(self, stages: Collection[str]) -> None:
        """Raise ValueError if a named stage is not one of a bundle's."""
        for name in self.stages:
            if name not in stages:
                raise ValueError(
                    f"precision names a stage '{name:.40}'; this bundle has {', '.join(stages)}"
                )

    def check_fixed(self, device: str) -> None:
        """Raise ValueError if more is asked for than a device that has no choice can give."""
        given = [self.default, *self.stages.values()]
        allowed: tuple[Choice, ...] = ("auto", "fp32") if device == "cpu" else ("auto",)
        for choice in given:
            if choice not in allowed:
                raise ValueError(
                    f"precision {choice} is not for the device {device}, which takes "
                    f"{' and '.join(allowed)}; bf16 and int8 need --device openvino"
                )


AUTO, FP32 = PrecisionOptions(), PrecisionOptions("fp32")


def parse_precision(words: str | Sequence[str]) -> PrecisionOptions:
    """Parse ``bf16`` or ``decoder=fp32``, one or several; raise ValueError naming the wrong one."""
    default: list[Choice] = []
    stages: dict[str, Choice] = {}
    for word in [words] if isinstance(words, str) else words:
        stage, is_stage, value = word.rpartition("=")
        choice = next((choice for choice in CHOICES if choice == value), None)
        if choice is None or bool(is_stage) != bool(stage):
            raise ValueError(
                f"precision must be {', '.join(CHOICES)} or STAGE=PRECISION, got '{word:.80}'"
            )
        if stage:
            stages[stage] = choice
        else:
            default.append(choice)
    if len(set(default)) > 1:
        raise ValueError(f"precision must be one for all stages, got {' and '.join(default)}")
    return PrecisionOptions(default[0] if default else "auto", stages)


def summary(precisions: Mapping[str, str]) -> str:
    """Return precisions by stage in few words: ``bf16``, or ``bf16, fp32 for the restorer``."""
    kinds = list(dict.fromkeys(precisions.values()))
    kinds.sort(key=list(precisions.values()).count, reverse=True)
    stages = [[stage for stage, p in precisions.items() if p == kind] for kind in kinds[1:]]
    rest = [
        f"{kind} for the {' and '.join(names)}"
        for kind, names in zip(kinds[1:], stages, strict=True)
    ]
    return ", ".join([*kinds[:1], *rest])
