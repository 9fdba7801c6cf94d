"""The runtime on ONNX Runtime: how a server runs on a CPU."""
