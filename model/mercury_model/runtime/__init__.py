"""Where the network runs: one protocol; ONNX Runtime on a CPU, torch, CUDA."""
