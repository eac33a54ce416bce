"""The one way to open a network for ONNX Runtime: from bytes, with little memory, in private."""

import os
from typing import Any


def open_session(data: bytes) -> Any:
    """ONNX Runtime's session of an exported network, on the CPU.

    It keeps no arena, no plan and no second copy of the weights: together they took 40 MB for the
    packaged model, and saved no time.

    Args:
        data: the file's bytes, not its path, so that a file cannot name others to be read.

    Raises:
        Exception: of onnxruntime, with no base class of its own: the file is broken.
    """
    # its newer versions keep files of a user and report to its maker; read when it is loaded
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # takes a while, and not every command asks a model

    options = onnxruntime.SessionOptions()
    # a run is small, and its threads would wait for each other: several runs at once share cores
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as well
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
