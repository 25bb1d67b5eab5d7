"""The command line: help, exit status, one line on stderr and never a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import cli
from pipeline.errors import InputError
from pipeline.events import read_events
from pipeline.run import Outcome

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def resurvey(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs the command in this process, in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_at_work", [])

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["resurvey", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return command


def answer(outcome: Outcome | Exception) -> Callable[..., Outcome]:
    """A survey that ends at once."""

    def survey(settings: Any, direct: bool) -> Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return survey


def test_help_has_the_verbs_that_work(resurvey: Command) -> None:
    code, out, err = resurvey("--help")
    assert (code, err) == (0, "")
    for verb in ("run", "plan", "status", "verify", "demo", "evaluate", "train", "models"):
        assert f"\n  {verb} " in out
    for later in ("backfill", "review", "deploy"):
        assert later not in out


@pytest.mark.parametrize("verb", ["run", "plan", "demo"])
def test_computing_verbs_share_their_options(resurvey: Command, verb: str) -> None:
    _, out, _ = resurvey(verb, "--help")
    for option in ("--device", "--workers", "--scheduler", "--tile", "--json", "--out"):
        assert option in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "IMAGE is missing"),
        (["run", "a.tif"], "--out DIR is missing"),
        (["run", "a.tif", "--out", "o", "--tile", "300"], "--tile 300: must be a multiple of 256; try 256"),
        (["run", "a.tif", "--out", "o", "--tile", "wide"], "Invalid value for '--tile'"),
        (["run", "city.toml"], "city.toml: cannot be read"),
        (["run", "a.tif", "--out", "o", "--card", "x"], "--card x: write TASK=NAME"),
        (["run", "a.tif", "--bogus"], "No such option: --bogus"),
        (["survey"], "No such command 'survey'"),
        (["status", "nowhere"], "nowhere: holds no run; name the --out of one"),
        (["verify", "nowhere"], "nowhere: is no folder"),
        (["models", "show", "nobody"], "model nobody: no such card"),
        (["train", "nothing", "--data", ".", "--out", "o"], "train nothing: there are alignment"),
        (["evaluate", "clicks", "--pred", "a", "--truth", "b"], "evaluate clicks: there are"),
        (["evaluate", "alignment", "--pred", "a.gpkg", "--truth", "b"], "a.gpkg: cannot be read as polygons"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(resurvey: Command, arguments: list[str], said: str) -> None:
    code, out, err = resurvey(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"resurvey: {said}")
    assert err.count("\n") == 1


def test_exit_status_and_json(resurvey: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "_survey", answer(Outcome(3, {"failed": 1, "error_m": float("nan")}, tmp_path)))
    code, out, _ = resurvey("run", "a.tif", "--out", "o", "--json")
    assert code == 3
    assert json.loads(out) == {
        "exit_status": 3, "folder": str(tmp_path), "figures": {"failed": 1, "error_m": None},
    }  # fmt: skip
    code, out, _ = resurvey("run", "a.tif", "--out", "o")
    assert code == 3
    assert str(tmp_path / "report.html") in out


def test_users_errors_show_no_traceback(resurvey: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_survey", answer(InputError("a.tif: has no CRS;\n assign one")))
    assert resurvey("run", "a.tif", "--out", "o") == (1, "", "resurvey: a.tif: has no CRS; assign one\n")


def test_an_unexpected_error_leaves_its_traceback(
    resurvey: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "_survey", answer(ZeroDivisionError("by zero")))
    (tmp_path / "o" / "work").mkdir(parents=True)
    code, _, err = resurvey("run", "a.tif", "--out", "o")
    assert code == 1
    assert err.startswith("resurvey: unexpected ZeroDivisionError: by zero; o/events.jsonl says when; traceback in ")
    assert err.count("\n") == 1
    (event,) = read_events(Path("o"))
    assert "ZeroDivisionError: by zero" in Path(event["traceback"]).read_text()
    # A folder that holds no run stays as it is: a run would refuse it otherwise.
    code, _, err = resurvey("run", "a.tif", "--out", "empty")
    assert not Path("empty").exists()
    assert Path(err.split("traceback in ")[1].strip()).is_file()


def test_interruption(resurvey: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def survey(settings: Any, direct: bool) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_survey", survey)
    code, _, err = resurvey("run", "a.tif", "--out", "o")
    assert code == 130
    assert "the same command goes on" in err


def test_settings_from_a_file_in_the_images_place(
    resurvey: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(cli, "_survey", lambda settings, direct: seen.append(settings) or Outcome(0, {}, tmp_path))
    (tmp_path / "city.toml").write_text('image = "a.tif"\nout = "o"\ntile = 512\n')
    assert resurvey("run", "city.toml", "--workers", 2, "--card", "mask=mine", "--sort")[0] == 0
    (settings,) = seen
    assert (settings.image, settings.tile, settings.workers) == ("a.tif", 512, 2)
    assert (settings.cards, settings.sort, settings.gpkg) == ({"mask": "mine"}, True, False)
