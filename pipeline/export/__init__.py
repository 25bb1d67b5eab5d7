"""The deliverables' formats: GeoParquet and its copies, cloud-optimised GeoTIFF."""
