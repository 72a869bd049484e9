"""How dossr-export ends where something fails. Nothing is exported."""

import pytest

from dossr.export.exit_codes import enough_memory


def test_memory_that_torch_lacks_is_one_line_and_other_errors_stay(capsys):
    text = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"
    with pytest.raises(SystemExit) as ended, enough_memory():
        raise RuntimeError(text)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said == f"dossr-export: out of memory: {text}; a smaller --tile needs less\n"
    with pytest.raises(RuntimeError, match="shapes do not fit"), enough_memory():
        raise RuntimeError("shapes do not fit")
