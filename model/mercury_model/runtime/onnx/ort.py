"""ONNX Runtime with its telemetry off: everybody in this project imports it from here."""

from mercury_model import dependencies

dependencies.silence("onnxruntime")

import onnxruntime as ort  # noqa: E402  it reads the switch when it is imported

# The events of Windows heed this and not the variable.
ort.disable_telemetry_events()

__all__ = ["ort"]
