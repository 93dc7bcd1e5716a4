"""Targets of ``benchmarks/fuzz.py``, one module per target."""
