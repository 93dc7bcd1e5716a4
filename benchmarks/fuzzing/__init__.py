"""What ``benchmarks/fuzz.py`` feeds with spoiled inputs, one module a target."""
