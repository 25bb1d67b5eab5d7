"""The pure builder of a model card's STAC item, with the Machine Learning Model extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalogs.cards import ModelCard

WINDOW = 256
SHA256 = "1220"  # multihash prefix of a sha2-256 of 32 bytes, as file:checksum wants it
_MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
# The extension asks for band names by one of three ways; STAC 1.1's own is one that its schema then
# forbids in an item, so they are given by the raster extension.
_RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
_MLM_TASKS = {
    "alignment": "regression",
    "coarse": "semantic-segmentation",
    "refiner": "semantic-segmentation",
    "mask": "instance-segmentation",
    "roads": "semantic-segmentation",
}


def item(card: ModelCard, parameters: int, size: int) -> dict[str, Any]:
    """The card as a STAC item with the MLM extension: pure, no files. `size` is the weights' in bytes."""
    names = [f"band_{i + 1}" for i in range(card.bands)]
    names = {1: ["gray"], 3: ["red", "green", "blue"]}.get(card.bands, names)
    classes = [{"value": i, "name": name, "description": name} for i, name in enumerate(card.classes)]
    side = WINDOW + 2 * card.halo
    order = ["batch", "channel", "height", "width"]
    channels = 2 if card.task == "alignment" else max(len(card.classes), 1)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_MLM, _FILE, _RASTER],
        "id": card.name,
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
        },
        "bbox": [-180, -90, 180, 90],
        "properties": {
            "datetime": None,
            "start_datetime": "1900-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "license": card.licence,
            "gsd": card.native_gsd,
            "mlm:name": card.name,
            "mlm:architecture": card.network,
            "mlm:tasks": [_MLM_TASKS[card.task]],
            "mlm:framework": "PyTorch",
            "mlm:total_parameters": parameters,
            "mlm:memory_size": size,
            "mlm:pretrained": True,
            "mlm:pretrained_source": ", ".join(card.trained_on) or None,
            "mlm:batch_size_suggestion": 1,
            "mlm:accelerator": None,
            "mlm:input": [
                {
                    "name": "image, stretched per scene and band between its 1st and 99th percentile",
                    "bands": names,
                    "input": {
                        "shape": [-1, card.bands, side, side],
                        "dim_order": order,
                        "data_type": "float32",
                    },
                    "value_scaling": [{"type": "clip", "minimum": 0, "maximum": 1}],
                }
            ],
            "mlm:output": [
                {
                    "name": card.task,
                    "tasks": [_MLM_TASKS[card.task]],
                    "result": {
                        "shape": [-1, channels, WINDOW, WINDOW],
                        "dim_order": order,
                        "data_type": "float32",
                    },
                    "classification:classes": classes,
                }
            ],
            "mlm:hyperparameters": {
                "halo": card.halo,
                "stride": card.stride,
                "window": WINDOW,
                "gsd_min": card.gsd[0],
                "gsd_max": card.gsd[1],
                "native_gsd": card.native_gsd,
                "network": card.settings,
            },
            "resurvey:task": card.task,
            "resurvey:trained_on": list(card.trained_on),
            "resurvey:evaluated_on": list(card.evaluated_on),
            "resurvey:scores": card.scores,
            "resurvey:fails": list(card.fails),
            "resurvey:extra": card.extra,
        },
        "assets": {
            "weights": {
                "href": "./weights.safetensors",
                "title": f"Weights of {card.name}",
                "type": "application/vnd.safetensors",
                "roles": ["mlm:model", "mlm:weights"],
                "raster:bands": [{"name": name, "data_type": "float32"} for name in names],
                "mlm:artifact_type": "safetensors.torch.save_file",
                "file:size": size,
                "file:checksum": SHA256 + card.sha256,
            }
        },
        "links": [],
    }
