"""TensorFlow, imported once, quickly, and with the threads and devices that this process may use.

Every other module of this package takes `tf` from here, so that the settings below always come first.

Environment
-----------
LFADSRM_GPU_GROWTH : 0 takes the whole memory of a GPU at once (`allow_gpu_growth`), else it grows.
LFADSRM_THREADS : number of CPU threads of this process (all cores when unset). The last bits of sums depend
    on it, so checkpoints hold it, and runs go on with the number that they began with.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any, TypeAlias

from lfadsrm_hpc.errors import UsageError

if TYPE_CHECKING:
    tf: Any
    Tensor: TypeAlias = Any
else:
    Tensor = object


def _import_tensorflow() -> Any:
    """Import tensorflow without Keras, which it loads eagerly and which takes half of the import's time.

    With TF_USE_LEGACY_KERAS set during the import, tensorflow looks for the package tf_keras instead and
    goes on where there is none; `tf.keras` remains available, loaded when it is first used.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    collecting = gc.isenabled()
    gc.disable()  # half a second of looking through a million new objects, none of them garbage
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        import tensorflow
    finally:
        if before is None:
            del os.environ["TF_USE_LEGACY_KERAS"]
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
        if collecting:
            gc.enable()
    gc.freeze()
    return tensorflow


def _threads() -> int | None:
    text = os.environ.get("LFADSRM_THREADS", "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(
            f"LFADSRM_THREADS={text!r} is not a number of threads", hint="set it to 1 or more, or unset it"
        )
    return int(text)


def _configure() -> None:
    tf.get_logger().setLevel("ERROR")  # it warns of functions that are traced anew, as for each new model
    threads = _threads()
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    # What rewrites graphs before they run without XLA (TensorFlow 2.21): its sums inside nested loops fail in
    # long ones ("AlreadyExistsError ... AddOpsRewrite ... tmp_var"), one training in five on a busy machine
    # ends with other bits than the rest, and a step on long trials holds twice the memory. It gains nothing.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    # Otherwise recent GPUs round the factors of products to 11 bits; `mixed_precision` is the switch for it.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, os.environ.get("LFADSRM_GPU_GROWTH") != "0")


tf = _import_tensorflow()
_configure()


def threads() -> int:
    """Return how many CPU threads the operations of this process share."""
    return int(tf.config.threading.get_intra_op_parallelism_threads()) or len(os.sched_getaffinity(0))


def on_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def device_name() -> str:
    """Return what computes: "cpu, 2 threads", or the name of the first GPU."""
    gpus: list[Any] = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"cpu, {threads()} threads"
    about = tf.config.experimental.get_device_details(gpus[0])
    return str(about.get("device_name", "GPU"))


def with_xla(use_xla: str) -> bool:
    """Return whether to compile with XLA: the switch "on", "off" or "auto".

    "auto" is "on", as measured on CPUs (docs/benchmarks.md): a step takes half the time, and compiling it a
    few seconds more. On GPUs neither was measured; there too a step is loops over bins of small operations,
    which XLA joins.
    """
    return use_xla != "off"


def of_session(stacked: Tensor, session: Tensor) -> Tensor:
    """Return one session's slice of what is stacked over sessions, (S, ...).

    As a product with a one-hot vector: `stacked[session]` and the gradient of `tf.gather` make XLA take the
    order of sessions as a constant, and compile the step anew for every epoch.
    """
    if stacked.shape[0] == 1:
        return stacked[0]
    return tf.tensordot(tf.one_hot(session, stacked.shape[0], dtype=stacked.dtype), stacked, 1)
