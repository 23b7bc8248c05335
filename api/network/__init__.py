"""The network: nodes, trees, moves, import."""
