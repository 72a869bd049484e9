import pytest
from click.testing import CliRunner

from dossr.export.checkpoint.synthetic import main


@pytest.mark.parametrize(
    ("path", "said"),
    [("mine.ckpt", "mine.ckpt exists; choose another file"), ("no/x.ckpt", "does not exist")],
)
def test_a_path_that_cannot_be_written_is_one_line_and_nothing_is_written(tmp_path, path, said):
    (tmp_path / "mine.ckpt").write_text("dear")
    done = CliRunner().invoke(main, [str(tmp_path / path)])
    assert done.exit_code == 2
    assert done.stderr.startswith("dossr.export.checkpoint.synthetic: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert [file.read_text() for file in tmp_path.iterdir()] == ["dear"]
