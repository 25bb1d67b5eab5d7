"""One recipe a model; each runs as `python -m training.recipes.NAME`."""
