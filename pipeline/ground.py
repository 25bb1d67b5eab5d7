"""How large a pixel is on the ground, whatever the units of its CRS."""

from __future__ import annotations


def ground_sampling(
    crs: str, transform: tuple[float, float, float, float, float, float], shape: tuple[int, int]
) -> tuple[float, float]:
    """Metres on the ground of one pixel (x, y), at the image's centre.

    The CRS's own metres where they hold to 1 %; measured on the ellipsoid where they do not
    (degrees, Web Mercator away from the equator).
    """
    import pyproj

    a, _, c, _, e, f = transform
    system = pyproj.CRS.from_wkt(crs)
    factor = system.axis_info[0].unit_conversion_factor if system.axis_info else 1.0
    nominal = (abs(a) * factor, abs(e) * factor)
    try:
        to_degrees = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
        geod = system.get_geod()
        if geod is None:
            return nominal
        x, y = c + a * shape[1] / 2, f + e * shape[0] / 2
        lon, lat = to_degrees.transform([x, x + a, x], [y, y, y + e], errcheck=True)
        across = geod.inv(lon[0], lat[0], lon[1], lat[1])[2]
        down = geod.inv(lon[0], lat[0], lon[2], lat[2])[2]
    except (pyproj.exceptions.ProjError, AttributeError):  # a local CRS without a datum
        return nominal
    if not system.is_geographic and max(abs(across / nominal[0] - 1), abs(down / nominal[1] - 1)) < 0.01:
        return nominal
    return float(across), float(down)
