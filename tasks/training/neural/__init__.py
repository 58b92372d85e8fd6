"""What the family `mlp` is made of: preparation, network and graph; rows in an order of their own; the loop and its processes."""
