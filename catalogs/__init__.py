"""What exists: model cards and weights, map styles, the demo scene."""
