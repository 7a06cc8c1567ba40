"""What ``benchmarks/reliability.py`` does to commands and agents, one module per kind of harm."""
