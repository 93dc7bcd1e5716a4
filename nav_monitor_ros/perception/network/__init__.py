"""Networks: specification, building, layers, backends, threads."""
