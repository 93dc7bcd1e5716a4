"""Networks in ONNX form: read without trust, run, exported."""
