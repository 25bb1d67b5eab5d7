"""Settings: who wins, what is refused, and what each refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import SettingsError
from pipeline.settings import EXECUTION, GRID, Settings, load

GIVEN = {"image": "a.tif", "cadaster": "c.gpkg", "out": "o"}


def test_defaults() -> None:
    settings = load(**GIVEN)
    assert settings.tile == 1024
    assert settings.stages == ("align", "classify", "refine", "split")
    assert load(image="a.tif", out="o").stages == ("classify", "refine", "split")
    with pytest.raises(ValidationError, match="frozen"):
        settings.tile = 512  # type: ignore[misc]


@pytest.mark.parametrize(
    ("stages", "read"),
    [
        ("align", ("align",)),
        ("classify, refine", ("classify", "refine")),
        ("split", ("split",)),
        ("align,split", ("align", "split")),
    ],
)
def test_choices_of_stages(stages: str, read: tuple[str, ...]) -> None:
    assert load(**GIVEN, stages=stages).stages == read


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tile": 300}, "--tile 300: must be a multiple of 256; try 256"),
        ({"tile": 0}, "--tile 0: must be a multiple of 256; try 256"),
        ({"stages": "algn"}, "--stages: no stage 'algn'; did you mean 'align'?"),
        ({"stages": "refine"}, "--stages: refine needs classify; write classify,refine"),
        ({"stages": "split,align"}, "--stages: write them once and in this order: align,classify,refine,split"),
        ({"stages": "align,align"}, "--stages: write them once"),
        ({"stages": "align", "cadaster": ""}, "--stages: align needs --cadaster POLYGONS"),
        ({"device": "gpu"}, "--device gpu: must be one of auto, cpu, cuda"),
        ({"move": "rigid"}, "--move rigid: must be one of vertex, building, block"),
        ({"outlines": "straight"}, "--outlines straight: must be one of traced, regular"),
        ({"workers": 0}, "--workers 0: input should be greater than or equal to 1"),
        ({"out": None}, "--out DIR is missing: give it on the command line, as RESURVEY_OUT or in a TOML file"),
    ],
)
def test_refusals_name_the_option(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{**GIVEN, **given})
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_command_line_beats_environment_beats_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "city.toml"
    config.write_text('image = "city.tif"\nout = "run"\ntile = 512\nworkers = 3\n')
    assert load(config).tile == 512
    monkeypatch.setenv("RESURVEY_TILE", "768")
    assert load(config).tile == 768
    assert load(config, tile=256).tile == 256
    assert load(config).workers == 3
    monkeypatch.setenv("RESURVEY_STAGES", "classify,refine")
    assert load(config).stages == ("classify", "refine")


def test_paths_in_toml_are_relative_to_it(tmp_path: Path) -> None:
    config = tmp_path / "city.toml"
    config.write_text('image = "city.tif"\ncadaster = "https://example.org/c.parquet"\nout = "/data/run"\n')
    settings = load(config)
    assert settings.image == str(tmp_path / "city.tif")
    assert settings.cadaster == "https://example.org/c.parquet"
    assert settings.out == Path("/data/run")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('tiles = 512', "no setting 'tiles'; did you mean 'tile'?"),
        ('tile = "wide"', "tile wide: "),
        ("tile = 300", "tile 300: must be a multiple of 256"),
        ("tile =", "not valid TOML"),
    ],
)
def test_wrong_toml_is_named(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "city.toml"
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(config, **GIVEN)
    assert str(caught.value).startswith(f"{config}: {said}")


def test_missing_toml() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read"):
        load(Path("nowhere.toml"))


def test_wrong_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESURVEY_TILE", "300")
    with pytest.raises(SettingsError, match="RESURVEY_TILE 300: must be"):
        load(**GIVEN)
    monkeypatch.setenv("RESURVEY_CARDS", "alignment")
    with pytest.raises(SettingsError, match="cards"):
        load(**GIVEN)


def test_identity_leaves_out_how_it_is_run() -> None:
    here = load(**GIVEN)
    there = load(**{**GIVEN, "out": "elsewhere"}, workers=7, device="cpu", stages="align", batch=1)
    assert here.identity() == there.identity()
    assert here.difference(there.identity()) == []
    finer = load(**GIVEN, tile=512)
    assert finer.difference(here.identity()) == ["tile: 1024 there, 512 now"]
    assert finer.relevant() == here.relevant()


def test_identity_does_not_depend_on_how_a_path_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(**{**GIVEN, "image": str(tmp_path / "a.tif")}).identity() == load(**GIVEN).identity()
    assert load(**{**GIVEN, "image": "s3://bucket/a.tif"}).identity()["image"] == "s3://bucket/a.tif"


def test_a_folder_from_before_a_setting_was_there_goes_on() -> None:
    mine = load(**GIVEN)
    older = {key: value for key, value in mine.identity().items() if key not in ("outlines", "roads", "min_score")}
    assert mine.difference(older) == []
    assert load(**GIVEN, outlines="regular").difference(older) == ["outlines: 'traced' there, 'regular' now"]


def test_roads_are_refused_where_nothing_looks_for_them() -> None:
    for given, said in (
        ({"roads": True, "aligner": "network"}, "roads: .*--aligner both or search"),
        ({"roads": True, "stages": "split"}, "roads: .*--stages align"),
        ({"class_column": "kind"}, "--class-column: .*needs --roads"),
    ):
        with pytest.raises(SettingsError, match=said):
            load(**GIVEN, **given)


def test_every_field_is_sorted_into_a_class() -> None:
    fields = set(Settings.model_fields)
    assert fields >= EXECUTION | GRID
    assert fields - EXECUTION - GRID == {
        "image", "cadaster", "cadaster_crs", "cadaster_layer", "models", "cards", "aligner", "min_area", "sort",
        "move", "seat", "symmetry", "outlines", "min_score", "roads", "class_column",
    }  # fmt: skip
