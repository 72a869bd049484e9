"""The options of ``dossr-run``, in the groups of its help."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from ..engines.device import DEVICES
from ..engines.precision import CHOICES
from ..engines.tensorrt.options import SETTINGS
from ..images.color import COLOR_FIXES
from ..images.formats import WRITABLE
from ..options import MAX_STEPS, STARTS, TILE
from ..seeds.request import MOST_SEEDS
from ..tensors import MAX_PIXELS
from ..terminal import Command

FORMATS = ", ".join(suffix[1:] for suffix in WRITABLE)
LOSSY = ", ".join(suffix[1:] for suffix, kind in WRITABLE.items() if kind.quality)
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    inputs: tuple[str, ...]
    output: str
    bundle: Path | None
    device: str
    low_memory: bool
    precision: tuple[str, ...]
    verify: bool
    threads: int | None
    tf32: bool | None
    build: tuple[str, ...]
    steps: int
    order: int
    seed: int
    seeds: int | None
    best: str | None
    sheet: bool
    mean: bool
    spread: bool
    start: int
    detail: float
    color_fix: str
    scale: float | None
    longest: int | None
    shortest: int | None
    width: int | None
    height: int | None
    fit: str | None
    tile: int | None
    """None: auto."""

    overlap: int | None
    batch: int
    max_pixels: int
    format: str | None
    quality: int | None
    suffix: str
    depth: str
    background: str | None
    profile: str
    strip: bool
    first_frame: bool
    overwrite: bool
    skip_existing: bool
    compare: Path | None
    dry_run: bool
    as_json: bool
    ray: str | None
    workers: int | None
    gpus_per_worker: float | None
    bundle_uri: str | None = None
    """Of a bundle in a store; ``bundle`` is then None."""

    @property
    def bundle_text(self) -> str | None:
        """The bundle as it was given; None: the built-in demo model."""
        return self.bundle_uri or (str(self.bundle) if self.bundle else None)


class PathOrUri(click.Path):
    """A path that exists; with ``--ray`` also a URI or @FILE, which are checked later."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path, or the text of anything else."""
        if isinstance(value, str) and (is_uri(value) or is_list(value)):
            return value
        return super().convert(value, param, ctx)


def is_uri(text: str) -> bool:
    """Return whether a text is a URI and no path."""
    return "://" in text


def is_list(text: str) -> bool:
    """Return whether an input is @FILE, a list of inputs, and no file of such a name."""
    return text.startswith("@") and not Path(text).exists()


def to_arguments(values: Mapping[str, Any]) -> Arguments:
    """Return the parameters of the command as a record."""
    bundle = values["bundle"]
    uri = bundle if isinstance(bundle, str) else None
    own = {"start": int(values["start"]), "bundle": None if uri else bundle, "bundle_uri": uri}
    return Arguments(**{**values, **own})


class GroupedOption(click.Option):
    """An option with the title of its group in the help."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "group", "Other"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _with_dot(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return the suffix of an output format, given with or without its dot and in any case."""
    if value is None:
        return None
    suffix = f".{value.lower().removeprefix('.')}"
    if suffix not in WRITABLE:
        raise click.BadParameter(f"must be one of {FORMATS}, got '{value}'")
    return suffix


def _tile(_: click.Context, __: click.Parameter, value: str) -> int | None:
    """Return the side of a tile; None for auto."""
    if value == "auto":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"must be auto or a number from 0 on, got '{value}'")
    return int(value)


def with_options(function: _Function) -> _Function:
    """Add every option to a command."""
    for option in reversed(
        (*_FILES, *_SIZE, *_WRITING, *_SAMPLING, *_SEEDS, *_DEVICE, *_MEMORY, *_REPORT, *_CLUSTER)
    ):
        function = option(function)
    return function


_Option = Callable[[Any], Any]


def _group(title: str) -> Callable[..., _Option]:
    return partial(click.option, cls=GroupedOption, group=title)


_file = _group("Files")
_FILES: tuple[_Option, ...] = (
    _file("-o", "--output", required=True, metavar="OUT",
          help="Output file for one INPUT file, or a folder, created if missing: for several INPUTs, and "
          "wherever OUT ends with a slash. A file name without a format gets .png. -: standard output."),
    _file("--format", callback=_with_dot, metavar="FORMAT",
          help=f"Format of results in a folder, or of an OUT without a format: {FORMATS}.  [default: png]"),
    _file("--suffix", default="", metavar="TEXT",
          help="Added to the names of the results, such as _x4.  [default: nothing; _upscaled for results "
          "beside their sources]"),
    _file("--overwrite", is_flag=True, help="Replace existing files; never a source in a folder."),
    _file("--skip-existing", is_flag=True,
          help="Skip images whose output exists: resumes an interrupted run."),
    _file("--dry-run", is_flag=True,
          help="Print what would be read and written, with sizes; write nothing and load no network."),
)  # fmt: skip

_size = _group("Size of the result")
_SIZE: tuple[_Option, ...] = (
    _size("--scale", type=float, metavar="FACTOR",
          help="Relative to the input, above 0. Below 4, the four times larger result is reduced; above 4, "
          "Lanczos enlarges it further.  [default: 4]"),
    _size("--longest", type=click.IntRange(1), metavar="N", help="Longer side in pixels."),
    _size("--shortest", type=click.IntRange(1), metavar="N", help="Shorter side in pixels."),
    _size("--width", type=click.IntRange(1), metavar="N", help="Width in pixels."),
    _size("--height", type=click.IntRange(1), metavar="N", help="Height in pixels."),
    _size("--fit", metavar="WxH",
          help="The largest size within this width and height, such as 3840x2160. All sizes keep the ratio; "
          "give one of the six at most."),
)  # fmt: skip

_writing = _group("What is kept")
_WRITING: tuple[_Option, ...] = (
    _writing("--quality", type=click.IntRange(1, 100), metavar="N",
             help=f"1 to 100, for formats with losses: {LOSSY}."),
    _writing("--depth", type=click.Choice(["auto", "8", "16"]), default="auto", show_default=True,
             help="Bits a channel; auto: as the input, where the format has them."),
    _writing("--background", metavar="COLOR",
             help="Put transparent images on this colour, a name or #rrggbb."),
    _writing("--profile", type=click.Choice(["keep", "srgb"]), default="keep", show_default=True,
             help="Colour profile of the result: that of the input, or sRGB."),
    _writing("--strip", is_flag=True, help="Leave out metadata, such as EXIF, but keep the profile."),
    _writing("--first-frame", is_flag=True,
             help="Only the first frame of an animation, or page of a TIFF."),
)  # fmt: skip

_sampling = _group("Sampling")
_SAMPLING: tuple[_Option, ...] = (
    _sampling("-b", "--bundle", type=PathOrUri(exists=True, path_type=Path),
              help="Bundle folder from dossr-export; with --ray also a URI.  [default: the built-in demo model]"),
    _sampling("--steps", type=click.IntRange(1, MAX_STEPS), default=5, show_default=True,
              help="Network evaluations, below --start: more steps add detail and take longer."),
    _sampling("--order", type=click.IntRange(1, 3), default=3, show_default=True,
              help="Order of the solver; 1 is recommended from 10 steps on."),
    _sampling("--seed", type=click.IntRange(0), default=42, show_default=True,
              help="Noise seed, the same for every image and frame."),
    _sampling("--start", type=click.Choice([str(start) for start in STARTS]), default="500",
              show_default=True,
              help="Noise that sampling starts from: less stays closer to the input, more invents more."),
    _sampling("--detail", type=click.FloatRange(0, 1), default=1.0, show_default=True,
              help="Share of the invented detail in the result, 0 to 1."),
    _sampling("--color-fix", type=click.Choice(list(COLOR_FIXES)), default="wavelet",
              show_default=True, help="How the colours of the input are restored."),
)  # fmt: skip

_seeds = _group("Several seeds")
_SEEDS: tuple[_Option, ...] = (
    _seeds("--seeds", type=click.IntRange(1, MOST_SEEDS), metavar="N",
           help="Draw each image N times, with --seed and the N - 1 after it, as single runs would: restorer and "
           "encoder run once for all. Writes NAME.seed42.png and so on."),
    _seeds("--best", metavar="MEASURE",
           help="Write the best draw only, under the usual name. agreement: its reduction contradicts the input "
           "least; or a no-reference metric of pyiqa, such as musiq."),
    _seeds("--sheet", is_flag=True,
           help="Also write NAME.sheet.png, which shows all draws with seed and score."),
    _seeds("--mean", is_flag=True, help="Also write NAME.mean.png, the mean of all draws."),
    _seeds("--spread", is_flag=True,
           help="Also write NAME.spread.png, the standard deviation of each pixel: where the model invents."),
)  # fmt: skip

_device = _group("Device")
_DEVICE: tuple[_Option, ...] = (
    _device("--device", type=click.Choice((*DEVICES, "auto")), default="cpu", show_default=True,
            help="Device that runs the networks; auto takes engines that are built already, else cuda if it "
            "computes right, else openvino where the processor has bf16, else cpu."),
    _device("--precision", multiple=True, metavar="[STAGE=]PRECISION",
            help=f"Of the networks on a processor: {', '.join(CHOICES)}; may be repeated for single stages. "
            "auto: bf16 on openvino where the processor has it and the stage's golden vectors allow it. int8: for "
            "bundles exported with --int8.  "
            "[default: auto]"),
    _device("--tf32/--no-tf32", default=None,
            help="Let float32 products on a GPU use TensorFloat-32.  [default: in float16 bundles]"),
    _device("--build", "build", multiple=True, metavar="SETTING",
            help=f"Setting of TensorRT builds: {', '.join(SETTINGS)}; may be repeated."),
    _device("--threads", type=click.IntRange(1), metavar="N",
            help="Threads of the networks on a processor; with --ray, cores of each worker.  [default: all "
            "cores; with --ray, 4 at most]"),
    _device("--verify", is_flag=True,
            help="Hash every file of the bundle, also those that did not change since they were hashed."),
)  # fmt: skip

_memory = _group("Memory")
_MEMORY: tuple[_Option, ...] = (
    _memory("--tile", callback=_tile, default="auto", show_default=True, metavar="auto|N",
            help=f"Side of the tiles for larger images, in pixels of the input. auto: {TILE}; less, and smaller "
            "batches, where memory does not suffice, which is told. 0: no tiles; memory then grows with the "
            "square of the area."),
    _memory("--overlap", type=click.IntRange(0),
            help="Overlap of the denoiser's tiles, in pixels of the input; less is faster.  "
            "[default: half a tile]"),
    _memory("--batch", type=click.IntRange(1), default=1, show_default=True,
            help="Tiles per call of the denoiser: more may be faster on a GPU and need more memory. "
            "TensorRT builds one engine per batch size."),
    _memory("--low-memory", is_flag=True,
            help="Hold one network in memory at a time and reload each for every image. A run of one still image "
            "on openvino does so by itself."),
    _memory("--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True,
            help="Reject larger inputs, in pixels (width times height), before decoding them."),
)  # fmt: skip

_report = _group("Report")
_REPORT: tuple[_Option, ...] = (
    _report("--compare", type=click.Path(path_type=Path, dir_okay=False), metavar="PAGE.html",
            help="Write a page that shows every image before and after, with a slider."),
    _report("--json", "as_json", is_flag=True, help="Print the results as one JSON document."),
)  # fmt: skip

_cluster = _group("Many machines")
_CLUSTER: tuple[_Option, ...] = (
    _cluster("--ray", is_flag=False, flag_value="local", metavar="[ADDRESS]",
             help="Run workers of Ray, on this machine or on the cluster at ADDRESS (auto or HOST:PORT). INPUT may then "
             "be a URI such as s3://bucket/photos, or @FILE, a list with one input a line; OUT is a folder or a URI. A "
             "rerun does what is left."),
    _cluster("--workers", type=click.IntRange(1), metavar="N",
             help="Number of workers.  [default: as many as fit]"),
    _cluster("--gpus-per-worker", type=click.FloatRange(0), metavar="N",
             help="GPUs of each worker, such as 0.5 for two on one.  [default: 1 where the device is a GPU]"),
)  # fmt: skip
