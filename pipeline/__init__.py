"""What happens to a scene, floor by floor: an import goes down a floor, never up (see CONTRIBUTING.md)."""
