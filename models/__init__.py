"""The networks, one file each. Torch only: they train on a machine without the geodata stack."""
