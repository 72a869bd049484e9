"""Optimization profiles: shapes of stages, sizes that an engine accepts, file names."""

from fnmatch import fnmatch

from dossr.runtime.bundle import read_manifest
from dossr.runtime.engines.tensorrt.profiles import (
    contains,
    engine_name,
    engine_pattern,
    is_fixed,
    stage_shapes,
)


def test_every_stage_has_its_shapes(toy_bundle):
    manifest = read_manifest(toy_bundle / "manifest.json")
    shapes = {
        name: stage_shapes(manifest, record, 16, 32) for name, record in manifest.stages.items()
    }
    assert shapes["restorer"] == {"lr": (1, 3, 16, 32)}
    assert shapes["encoder"] == {"restored": (1, 3, 64, 128)}
    assert shapes["denoiser"] == {"x": (1, 4, 8, 16), "hint": (1, 4, 8, 16), "time": (1,)}
    assert shapes["decoder"] == {"x": (1, 4, 8, 16)}


FIXED = {"x": ((1, 4, 64, 64),) * 3, "time": ((1,),) * 3}


def test_a_profile_contains_its_sizes():
    profile = {"x": ((1, 4, 8, 8), (1, 4, 16, 16), (1, 4, 32, 32)), "time": ((1,),) * 3}
    assert contains(profile, {"x": (1, 4, 8, 32), "time": (1,)})
    assert not contains(profile, {"x": (1, 4, 8, 33), "time": (1,)})
    assert not contains(profile, {"x": (1, 4, 8), "time": (1,)})
    assert not contains(profile, {"x": (1, 4, 8, 8)})
    assert not is_fixed(profile)
    assert is_fixed(FIXED)


def test_the_name_of_an_engine_tells_its_stage_sizes_gpus_and_library():
    profile = {"x": ((1, 4, 8, 8), (1, 4, 16, 16), (1, 4, 32, 32)), "time": ((1,),) * 3}
    names = [
        engine_name("denoiser", "tensorrt-rtx", profile),
        engine_name("denoiser", "tensorrt-rtx", FIXED, ("8.6", "12.0")),
        engine_name("denoiser", "tensorrt", FIXED),
    ]
    assert names == [
        "denoiser-1x4x8x8-to-1x4x32x32.tensorrt-rtx.engine",
        "denoiser-1x4x64x64.sm86-sm120.tensorrt-rtx.engine",
        "denoiser-1x4x64x64.tensorrt.engine",
    ]
    pattern = engine_pattern("denoiser", "tensorrt-rtx")
    assert [fnmatch(name, pattern) for name in names] == [True, True, False]
