"""`python -m training.targets`: both bands on an image's grid, whatever the windows, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from shapely import MultiPolygon, Point, Polygon, box

from training import targets_file
from training.targets import label_image, mask_and_touching
from training.targets_file import main, write_targets

CRS = "EPSG:32645"
EAST, NORTH = 400_000, 3_000_000


def image(path: Path, shape: tuple[int, int] = (40, 60), transform: Affine | None = None, crs: str | None = CRS) -> str:
    """An image of nothing: only its grid matters."""
    grid = transform or Affine(0.5, 0, EAST, 0, -0.5, NORTH)
    with rasterio.open(path, "w", "GTiff", shape[1], shape[0], 3, crs, grid, "uint8") as tif:
        tif.write(np.ones((3, *shape), np.uint8))
    return str(path)


def layer(path: Path, shapes: list[shapely.Geometry | None], crs: str | None = CRS) -> Path:
    """Shapes in px of the image's grid, as a file in its CRS."""
    world = [None if s is None else shapely.transform(s, lambda xy: xy * (0.5, -0.5) + (EAST, NORTH)) for s in shapes]
    geopandas.GeoDataFrame(geometry=world, crs=crs).to_parquet(path)
    return path


def read(path: Path) -> np.ndarray:
    """(2, h, w) uint8."""
    with rasterio.open(path) as tif:
        assert tif.dtypes == ("uint8", "uint8") and tif.descriptions == ("building", "touching")
        return np.asarray(tif.read())


def test_two_houses_wall_to_wall_by_hand(tmp_path: Path) -> None:
    shapes = [box(4, 10, 16, 22), box(16, 10, 28, 22), MultiPolygon([box(40, 2, 44, 6), box(44, 8, 48, 12)])]
    shapes += [None, Point(50, 30), Polygon(), box(100, 100, 110, 110)]
    like, out = image(tmp_path / "a.tif"), tmp_path / "t.tif"
    found = write_targets(layer(tmp_path / "a.parquet", shapes), like, out)
    mask, touching = read(out)
    assert mask.sum() == 2 * 144 + 2 * 16
    assert np.flatnonzero(touching[16]).tolist() == [14, 15, 16, 17]
    assert not touching[:, 36:].any()  # the two parts of one building are one building
    assert found == {"buildings": 3, "mask": int(mask.sum()), "touching": int(touching.sum())}
    with rasterio.open(out) as tif, rasterio.open(like) as source:
        assert (tif.transform, tif.crs, tif.shape) == (source.transform, source.crs, source.shape)
    assert not (tmp_path / "t.tif.part").exists()


def test_windows_change_nothing_and_turned_grids_and_other_crss_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(-5, 95, (60, 2))
    shapes = [box(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, rng.uniform(4, 12, (60, 2)), strict=True)]
    file, out = layer(tmp_path / "a.parquet", shapes), tmp_path / "t.tif"
    like = image(tmp_path / "a.tif", (90, 100))
    write_targets(file, like, out, near=2)
    whole = read(out)
    rings = np.arange(0, 5 * 61, 5)
    coords = np.concatenate([shapely.get_coordinates(each) for each in shapes])
    np.testing.assert_array_equal(whole, mask_and_touching(label_image(coords, rings, np.arange(61), (90, 100)), 2))
    for window in (32, 50):
        monkeypatch.setattr(targets_file, "WINDOW", window)
        write_targets(file, like, out, near=2)
        np.testing.assert_array_equal(read(out), whole)
    degrees = tmp_path / "degrees.gpkg"
    geopandas.read_parquet(file).to_crs("EPSG:4326").to_file(degrees)
    write_targets(degrees, like, out, near=2)
    assert (read(out) != whole).sum() < 20  # a vertex moves by a hair; so may a centre on an edge
    turned = image(tmp_path / "b.tif", (100, 90), Affine(0, 0.5, EAST, -0.5, 0, NORTH))  # x runs south, y east
    write_targets(file, turned, out, near=2)
    assert (read(out)[0] != whole[0].T).sum() < 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--buildings", "no.parquet"], "no.parquet: cannot be read as polygons"),
        (["--like", "no.tif"], "no.tif: cannot be read as an image"),
        (["--like", "bare.tif"], "bare.tif: has no CRS"),
        (["--buildings", "bare.parquet"], "bare.parquet: has no CRS"),
        (["--out", "nowhere/t.tif"], "--out nowhere/t.tif: cannot be written"),
        (["--near", "0"], "--near 0: must be 1 or more"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    image(Path("a.tif"))
    image(Path("bare.tif"), crs=None)
    layer(Path("a.parquet"), [box(1, 1, 5, 5)])
    layer(Path("bare.parquet"), [box(1, 1, 5, 5)], crs=None)
    assert main(["--buildings", "a.parquet", "--like", "a.tif", "--out", "t.tif", *arguments]) == 1
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not Path("t.tif").exists()


def test_the_command(tmp_path: Path) -> None:
    file, like = layer(tmp_path / "a.parquet", [box(1, 1, 5, 5)]), image(tmp_path / "a.tif")
    command = [sys.executable, "-m", "training.targets", "--buildings", str(file), "--like", like, "--out"]
    done = subprocess.run([*command, str(tmp_path / "t.tif")], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[1])  # fmt: skip
    assert done.stdout == f"{tmp_path / 't.tif'}: 1 buildings; 16 px of mask, 0 px of touching borders\n"
    assert not done.stderr
