"""``dossr-export``: a checkpoint becomes a bundle."""

import sys
from pathlib import Path

import click

from .. import __version__
from ..runtime.terminal import Command, Terminal, say

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("dossr-export", cls=Command)
@click.argument("checkpoint", type=_FILE)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="BUNDLE",
              help="Folder to make.")  # fmt: skip
@click.option("--config", type=_FILE, metavar="YAML",
              help="The model's official YAML file.  [default: derived from the tensors]")  # fmt: skip
@click.option("--fp16", is_flag=True,
              help="float16 weights and activations, with float32 islands where numbers need them.")  # fmt: skip
@click.option("--opset", type=click.Choice(["18", "23"]), default="23", show_default=True,
              help="ONNX operator set; 18 is for engines before TensorRT 10.14.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), multiple=True, default=(1, 3, 5, 7),
              show_default=True, help="Step counts whose times are verified; may be repeated.")  # fmt: skip
@click.option(
    "--prompt", metavar="TEXT", help="Prompt to fold in.  [default: clean, high-resolution, 8k]"
)
@click.option("--tokenizer", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Folder with a CLIP tokenizer, for another prompt than the default or ''.")  # fmt: skip
@click.option("--no-verify", is_flag=True, help="Do not compare the files with torch.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that exists.")
@click.version_option(__version__, prog_name="dossr-export")
def main(
    checkpoint: Path,
    output: Path,
    config: Path | None,
    fp16: bool,
    opset: str,
    steps: tuple[int, ...],
    prompt: str | None,
    tokenizer: Path | None,
    no_verify: bool,
    overwrite: bool,
) -> None:
    """Export a DoSSR CHECKPOINT (.ckpt or .safetensors) to a bundle that runs without torch.

    Each network is compared with torch before the bundle appears; a network over its bound fails
    the export and leaves no bundle. Nothing in a checkpoint is ever executed.

    \b
    Examples:
      dossr-export dossr_default.ckpt -o bundle --fp16
      dossr-export dossr_default.ckpt -o bundle --config cldm_v21.yaml --steps 5

    Exit code: 0 done, 1 the export failed, 2 wrong use.
    """
    from . import CheckpointError, Fp16Error, VerificationError, export_bundle
    from .networks.text import DEFAULT_PROMPT
    from .verify import Row, table

    try:
        manifest = export_bundle(
            checkpoint,
            output,
            config=config,
            fp16=fp16,
            opset=int(opset),
            steps=steps,
            prompt=DEFAULT_PROMPT if prompt is None else prompt,
            tokenizer=tokenizer,
            verify=not no_verify,
            overwrite=overwrite,
            progress=Terminal(),
        )
    except (CheckpointError, Fp16Error, VerificationError) as error:
        say("dossr-export", error)
        sys.exit(1)
    except (ValueError, FileExistsError, NotADirectoryError, PermissionError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        say("dossr-export", f"{output} cannot be written: {error}")
        sys.exit(1)
    if manifest.verification:
        click.echo(table([Row(**row) for row in manifest.verification]))
    size = sum(record.size for record in manifest.files.values())
    click.echo(f"{output}: {manifest.precision}, opset {manifest.opset}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
