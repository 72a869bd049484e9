"""The text tower, which turns the prompt into a constant at export; no bundle contains it."""

from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..checkpoint.config import TEXT, TextConfig

DEFAULT_PROMPT = "clean, high-resolution, 8k"

# OpenCLIP's token ids with start and end; prompts are padded with 0 to the number of positions.
_KNOWN_TOKENS = {
    DEFAULT_PROMPT: (49406, 3772, 267, 1400, 268, 9977, 267, 279, 330, 49407),
    "": (49406, 49407),
}


def tokenize(prompt: str, positions: int, tokenizer: Path | None = None) -> list[int]:
    """Return token ids, padded with 0.

    ``tokenizer``: folder of a CLIP tokenizer, needed for all but the two known prompts. Raise
    ValueError where it is needed and missing, unusable, or the prompt is too long.
    """
    if prompt in _KNOWN_TOKENS:
        ids = list(_KNOWN_TOKENS[prompt])
    elif tokenizer is None:
        raise ValueError(
            f"the prompt must be '{DEFAULT_PROMPT}' or '' where no CLIP tokenizer is given, "
            f"got '{prompt}'; give a folder with --tokenizer"
        )
    else:
        ids = _tokenize(prompt, tokenizer)
    if len(ids) > positions:
        raise ValueError(f"the prompt must have at most {positions} tokens, got {len(ids)}")
    return ids + [0] * (positions - len(ids))


def _tokenize(prompt: str, folder: Path) -> list[int]:
    """Return the ids from a CLIP tokenizer; another one would not fit the tower's embedding."""
    needed = f"{folder} must hold a CLIP tokenizer (vocab.json and merges.txt, or tokenizer.json)"
    names = {path.name for path in folder.iterdir()}
    if not {"vocab.json", "merges.txt"} <= names and "tokenizer.json" not in names:
        raise ValueError(f"{needed}, but these files are missing")
    try:
        ids = list(CLIPTokenizer.from_pretrained(folder, local_files_only=True)(prompt).input_ids)
    except Exception as error:  # the library raises many types for a damaged file
        raise ValueError(f"{needed}, but it cannot be read: {error}") from error
    start, end = _KNOWN_TOKENS[""]
    if ids[0] != start or ids[-1] != end or max(ids) >= TextConfig.vocabulary:
        raise ValueError(
            f"{needed}, but this is another one: its start and end tokens are {ids[0]}, {ids[-1]}"
        )
    return ids


def text_tower(text: TextConfig, layers: int | None = None) -> CLIPTextModel:
    """Return the tower with random weights on torch's default device, without its last block.

    ``layers``: number of blocks, if it is another one.
    """
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=text.vocabulary,
            hidden_size=text.width,
            intermediate_size=4 * text.width,
            num_hidden_layers=text.layers - 1 if layers is None else layers,
            num_attention_heads=text.heads,
            max_position_embeddings=text.positions,
            hidden_act="gelu",
            layer_norm_eps=1e-5,
        )
    ).eval()


@torch.no_grad()
def embed_prompt(tensors: dict[str, Tensor], text: TextConfig, tokens: list[int]) -> Tensor:
    """Return the prompt's embedding for the UNet: float32 (1, positions, width)."""
    output: Tensor = load_text_tower(tensors, text)(torch.tensor([tokens])).last_hidden_state
    return output


def load_text_tower(tensors: dict[str, Tensor], text: TextConfig) -> CLIPTextModel:
    """Return the tower with a checkpoint's weights.

    It gives OpenCLIP's "penultimate" output: all blocks but the last, then the final norm.
    """
    model = text_tower(text)
    unused = f"{TEXT}transformer.resblocks.{text.layers - 1}."
    state = convert_open_clip_checkpoint(
        model, {name: t for name, t in tensors.items() if not name.startswith(unused)}, TEXT
    )
    state.pop("text_projection.weight", None)
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    model.load_state_dict(state)
    return model
