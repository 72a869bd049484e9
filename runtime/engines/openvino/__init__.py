"""OpenVINO on processors, and on Intel's GPUs and NPUs; the only folder that imports it."""
