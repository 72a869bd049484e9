"""Engines that ran before memory ran out run on, on the real bindings without a GPU."""

from unittest.mock import Mock

import numpy as np
import pytest

from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.errors import OutOfMemoryError

LR = np.zeros((1, 3, 16, 16), np.float32)


def test_an_engine_runs_on_after_the_block_could_not_grow(world, toy):
    engine, memory = world.engine(toy)
    engine.run(lr=LR)
    memory.block = Mock(side_effect=OutOfMemoryError("the GPU is full"))
    with pytest.raises(OutOfMemoryError):
        engine._scratch.reserve(1 << 24)
    del memory.block
    world.calls.clear()
    assert (engine.run(lr=LR + 0.5)["restored"] == 0.5).all()
    assert ("IExecutionContext.set_device_memory", (0, 4096)) not in world.calls


def test_an_engine_of_a_range_runs_on_after_a_size_for_which_memory_ran_out(world, toy):
    engine, memory = world.engine(toy, BuildOptions(sides=(16, 16, 48)))
    engine.run(lr=LR)
    memory.empty = Mock(side_effect=[np.empty((1, 3, 48, 32), np.float32), MemoryError])
    with pytest.raises(MemoryError):
        engine.run(lr=np.zeros((1, 3, 48, 32), np.float32))
    del memory.empty
    assert (engine.run(lr=LR + 0.5)["restored"] == 0.5).all()
