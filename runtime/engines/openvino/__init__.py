"""OpenVINO on processors, and on Intel's GPUs and NPUs; the only folder that imports it."""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # reports every import
