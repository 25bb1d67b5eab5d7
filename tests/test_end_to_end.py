"""The whole line on a corner of the demo city: complete, nothing lost, and the same however it was cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.run import Outcome, survey
from pipeline.settings import load
from pipeline.verify import verify
from tests.small_city import PRODUCTS, cut, spoil

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SIDE = 1000


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return cut(tmp_path_factory.mktemp("city"), SIDE)


@pytest.fixture(scope="module")
def whole(city: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The city as one tile, in this process."""
    return run(city, tmp_path_factory.mktemp("whole") / "out", 1024, 1)


def run(city: tuple[Path, Path], out: Path, tile: int, workers: int) -> Outcome:
    return survey(load(image=str(city[0]), cadaster=str(city[1]), out=out, tile=tile, workers=workers))


def test_a_run_is_complete_and_verifies(whole: Outcome) -> None:
    assert whole.exit_status == 0
    assert whole.figures["failed"] == []
    found = verify(whole.folder)
    assert found.problems == ()
    assert found.complete
    others = ("displacement.parquet", "report.html", "item.json", "run.json", "events.jsonl", "classes.qml")
    for name in PRODUCTS + others:
        assert (whole.folder / name).is_file(), name


def test_every_row_comes_back_once_and_in_order(city: tuple[Path, Path], whole: Outcome) -> None:
    import geopandas
    import rasterio
    import shapely

    before, after = geopandas.read_parquet(city[1]), geopandas.read_parquet(whole.folder / "cadaster_aligned.parquet")
    assert len(after) == len(before) and after.crs == before.crs
    for column in before.columns.drop("geometry"):
        assert after[column].tolist() == before[column].tolist(), column
    assert (after.geometry.is_valid.to_numpy() | ~before.geometry.is_valid.to_numpy()).all()
    assert set(after["status"]) <= {"moved", "unmoved", "outside", "nodata", "invalid"}
    with rasterio.open(city[0]) as image:
        inside = before.geometry.within(shapely.box(*image.bounds)).to_numpy()
    assert inside.sum() > 60 and set(after["status"][inside]) <= {"moved", "unmoved"}
    moved, review = (after["status"] == "moved").to_numpy(), after["review"].to_numpy()
    assert moved[inside].mean() > 0.5 and (moved | review)[inside].all()
    assert not (moved & review).any()
    same = np.array([a == b for a, b in zip(before.geometry.to_wkb(), after.geometry.to_wkb(), strict=True)])
    assert same[~moved].all() and not same[moved].any()


def test_what_moved_lies_nearer_to_the_truth(city: tuple[Path, Path], whole: Outcome) -> None:
    import geopandas

    from catalogs.demo import demo_city

    true = geopandas.read_parquet(demo_city().truth).set_index(demo_city().key).geometry
    before, after = geopandas.read_parquet(city[1]), geopandas.read_parquet(whole.folder / "cadaster_aligned.parquet")
    moved = (after["status"] == "moved").to_numpy()
    aim = true.loc[before.loc[moved, demo_city().key]].centroid
    was, now = (cadaster[moved].centroid.distance(aim, align=False).to_numpy() for cadaster in (before, after))
    assert len(aim) > 40
    assert now.mean() < 0.25 * was.mean() and (now < was).mean() > 0.9


def test_the_border_of_a_window_changes_nothing_beyond_rounding(whole: Outcome) -> None:
    certificate = json.loads((whole.folder / "certificate.json").read_text())
    borders = certificate["window_border"]
    assert set(borders) == {"coarse", "refiner", "mask"}  # an image this fine is aligned without a network
    for name, said in borders.items():
        assert said["windows"] >= 1, name
        assert said["difference"] <= 1e-5, name


@pytest.mark.parametrize(("tile", "workers"), [(512, 1), (256, 2)])
def test_tiled_is_whole_to_the_byte(
    city: tuple[Path, Path], whole: Outcome, tmp_path: Path, tile: int, workers: int
) -> None:
    other = run(city, tmp_path / "out", tile, workers)
    assert other.exit_status == 0
    for name in PRODUCTS:
        assert (other.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_a_second_run_does_nothing_and_changes_nothing(city: tuple[Path, Path], whole: Outcome) -> None:
    ledger = whole.folder / "work" / "ledger.jsonl"
    receipts, bytes_of = ledger.read_bytes(), {name: (whole.folder / name).read_bytes() for name in PRODUCTS}
    assert run(city, whole.folder, 1024, 1).exit_status == 0
    assert ledger.read_bytes() == receipts
    assert all((whole.folder / name).read_bytes() == old for name, old in bytes_of.items())


def only_aligned(
    folder: Path, city: tuple[Path, Path], tile: int = 1024, workers: int = 1, aligner: str = "search", **more: object
) -> Path:
    """The aligned cadaster of a run of one aligner and the gate alone."""
    said = load(
        image=str(city[0]), cadaster=str(city[1]), out=folder, stages="align", aligner=aligner, tile=tile,
        workers=workers, **more,
    )  # fmt: skip
    assert survey(said).exit_status == 0
    return folder / "cadaster_aligned.parquet"


@pytest.mark.parametrize(
    "card", ["alignment-successor", "alignment-zampieri-scales"]
)  # three rasters and a stride of 8; a network of its own at each factor. All: benchmarks/alignment_tilings.py
def test_the_learned_chain_is_whole_to_the_byte(tmp_path: Path, card: str) -> None:
    small = cut(tmp_path / "city", 520)
    some = {"aligner": "network", "cards": {"alignment": card}}
    one = only_aligned(tmp_path / "one", small, **some)
    many = only_aligned(tmp_path / "many", small, tile=256, workers=2, **some)
    assert one.read_bytes() == many.read_bytes()
    field = "displacement.tif"
    assert (one.parent / field).read_bytes() == (many.parent / field).read_bytes()
    border = json.loads((one.parent / "certificate.json").read_text())["window_border"]["alignment"]
    # Displacements reach tens of pixels: rounding of float32 there is about 1e-5.
    assert border["windows"] >= 1 and border["difference"] <= 1e-4


def test_an_image_of_noise_leaves_the_cadaster_as_it_is(city: tuple[Path, Path], tmp_path: Path) -> None:
    import geopandas

    image, _ = cut(tmp_path / "noise", SIDE)
    spoil(image)
    before = geopandas.read_parquet(city[1])
    after = geopandas.read_parquet(only_aligned(tmp_path / "out", (image, city[1])))
    assert before.geometry.to_wkb().tolist() == after.geometry.to_wkb().tolist()
    judged = after["status"] == "unmoved"
    assert set(after["status"][~judged]) <= {"nodata", "outside", "invalid"} and judged.sum() > 60
    assert after["review"][judged].all()
    assert not after["dx_m"].any() and not after["dy_m"].any()


@pytest.fixture(scope="module")
def true_city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return cut(tmp_path_factory.mktemp("true"), SIDE, true=True)


def test_a_true_cadaster_moves_little(true_city: tuple[Path, Path], tmp_path: Path) -> None:
    import geopandas

    before = geopandas.read_parquet(true_city[1])
    after = geopandas.read_parquet(only_aligned(tmp_path / "out", true_city))
    judged = after["status"].isin(["moved", "unmoved"]).to_numpy()
    went = np.hypot(after["dx_m"], after["dy_m"]).to_numpy()[judged]
    assert judged.sum() > 60 and not after["review"].any()
    assert np.median(went) < 0.1 and went.max() < 0.6  # an image of 0.15 m: two thirds of a pixel, four pixels
    stays = (after["status"] == "unmoved").to_numpy()
    assert stays[judged].mean() > 0.25
    same = np.array([a == b for a, b in zip(before.geometry.to_wkb(), after.geometry.to_wkb(), strict=True)])
    assert same[stays].all()


def test_the_gate_does_not_ask_how_the_scene_was_cut(true_city: tuple[Path, Path], tmp_path: Path) -> None:
    one, many = only_aligned(tmp_path / "one", true_city), only_aligned(tmp_path / "many", true_city, 256, 2)
    for name in ("cadaster_aligned.parquet", "displacement.tif"):
        assert (one.parent / name).read_bytes() == (many.parent / name).read_bytes(), name


def test_the_scene_opens_in_xarray_with_its_crs(whole: Outcome) -> None:
    import rioxarray  # noqa: F401 - gives datasets their .rio
    import xarray

    scene = whole.folder / "work" / "scene.zarr"
    with xarray.open_zarr(scene, group="image/1", consolidated=False, decode_coords="all") as data:
        assert data.rio.crs.to_epsg() == 32645
        assert data["image"].shape == (3, SIDE, SIDE)


def test_buildings_are_valid_and_apart(whole: Outcome) -> None:
    import geopandas

    buildings = geopandas.read_parquet(whole.folder / "buildings.parquet")
    assert buildings["building_id"].is_unique
    assert buildings.geometry.is_valid.all()
    assert (buildings["area_m2"] >= 4).all()
    np.testing.assert_allclose(buildings.area, buildings["area_m2"], rtol=1e-6)


def test_products_that_were_removed_or_altered_are_made_again(city: tuple[Path, Path], whole: Outcome) -> None:
    before = {name: (whole.folder / name).read_bytes() for name in PRODUCTS}
    (whole.folder / "buildings.parquet").unlink()
    with (whole.folder / "classes.tif").open("ab") as file:
        file.write(b"more")
    assert len(verify(whole.folder).problems) == 2
    assert run(city, whole.folder, 1024, 1).exit_status == 0
    assert verify(whole.folder).complete
    assert all((whole.folder / name).read_bytes() == old for name, old in before.items())


def test_force_new_starts_again_in_the_same_folder(city: tuple[Path, Path], whole: Outcome) -> None:
    settings = load(
        image=str(city[0]), cadaster=str(city[1]), out=whole.folder, stages="align", aligner="search", workers=1,
        force_new=True,
    )  # fmt: skip
    assert survey(settings).exit_status == 0
    assert verify(whole.folder).complete
