"""How the weights are made: chips, targets, objectives, one loop, one recipe a model."""
