"""Training on several devices and hosts, over which JAX runs every step as one program.

Each device computes its rows of the global batch, and loss, gradients, batch statistics and random numbers are those of
the whole batch, whatever the number of devices. A recipe therefore does not depend on it.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import TrainingError, needs_extra

if TYPE_CHECKING:
    import keras

PATIENCE = 300.0
"""Seconds that hosts wait for one another at the start."""

_ALL_HERE = b"all here"


@dataclass(frozen=True)
class Share:
    """This host's share of a training.

    Attributes:
        host: the number of this host; only host 0 writes files.
        hosts: the number of hosts.
        devices: the number of devices of all hosts together; each host has the same number.
    """

    host: int = 0
    hosts: int = 1
    devices: int = 1

    def padded(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Repeat the first image until the number of images is divisible by the number of devices.

        Example:
            >>> Share(devices=4).padded(np.array([7, 8, 9])).tolist()
            [7, 8, 9, 7]
        """
        return np.concatenate([chosen, np.repeat(chosen[:1], -len(chosen) % self.devices)])

    def own(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return this host's part of the output of `padded`.

        Example:
            >>> Share(host=1, hosts=2, devices=2).own(np.array([7, 8, 9, 7])).tolist()
            [9, 7]
        """
        each = len(rows) // self.hosts
        return rows[self.host * each : (self.host + 1) * each]


def use(number: int | None = None, hosts: Sequence[str] = (), host: int = 0) -> Share:
    """Distribute training in this process over devices, and over hosts that call this function with the same list.

    This requires Keras on JAX, which is selected unless Keras is imported already. On a machine without an accelerator
    the devices are parts of its processor, which is no faster but allows testing the setup.

    Args:
        number: the number of devices to use on each host; by default all.
        hosts: the address of each host as `name:port`, in the same order on each; none for this machine alone.
        host: the number of this host, from 0.

    Returns:
        This host's share.

    Raises:
        MissingExtraError: JAX is not installed.
        TrainingError: there are fewer devices, the hosts are wrong or did not connect in time, or Keras is already
            running on another backend.

    Example:
        >>> use(2)  # doctest: +SKIP
        Share(host=0, hosts=1, devices=2)
    """
    addresses = [_address(text) for text in hosts]
    if addresses and not 0 <= host < len(addresses):
        raise TrainingError(f"Expected the number of this host in [0, {len(addresses) - 1}], got {host}.")
    if len(set(addresses)) < len(addresses):
        raise TrainingError("Expected a different address for each host, got one twice: give each its own port.")
    with needs_extra("Training on several devices", "train,devices"):
        import jax
    os.environ["KERAS_BACKEND"] = "jax"
    if "keras" in sys.modules and sys.modules["keras"].config.backend() != "jax":
        raise TrainingError("Expected Keras on JAX, got another backend: start again with KERAS_BACKEND=jax.")
    jax.config.update("jax_default_matmul_precision", "float32")  # GPUs would round to 10 bits
    if number:  # without an accelerator; each part of the processor needs its own threads, or they deadlock
        jax.config.update("jax_num_cpu_devices", number)
        os.environ.setdefault("NPROC", str(max(os.cpu_count() or 1, 4 * number)))
    if len(addresses) > 1:
        meet(addresses, host)

    import keras

    if len(addresses) > 1:
        keras.distribution.initialize(hosts[0], len(hosts), host)
    found = [[d for d in jax.devices() if d.process_index == each] for each in range(jax.process_count())]
    each = number or min(map(len, found))
    if each > min(map(len, found)):
        raise TrainingError(f"Expected at most the {min(map(len, found))} devices of a host, got {each}.")
    chosen = [f"{d.platform}:{d.id}" for devices in found for d in devices[:each]]
    # Every host reads its own part of a batch, so Keras must not divide it again.
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False))
    return share()


def meet(addresses: Sequence[tuple[str, int]], host: int) -> None:
    """Wait until every host has connected; if one is missing, JAX itself would abort the process with a C++ traceback.

    Args:
        addresses: the name and port of each host; they meet at the first.
        host: the number of this host.

    Raises:
        TrainingError: some hosts are missing after `PATIENCE` seconds.

    Example:
        >>> meet([("10.0.0.1", 9000), ("10.0.0.2", 9000)], host=1)  # doctest: +SKIP
    """
    deadline = time.monotonic() + PATIENCE
    if host:
        _report(addresses[0], host, len(addresses), deadline)
        return
    name, port = addresses[0]
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise TrainingError(f"Expected to listen on port {port} as host 0, got: {error.strerror}.") from error
    awaited = {_greeting(i, len(addresses)) for i in range(1, len(addresses))}
    with server, ExitStack() as guests:
        lines: list[socket.socket] = []
        while awaited:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                line, _ = server.accept()
                line.settimeout(5.0)
                said = line.recv(64).decode("ascii", "replace")
            except OSError:  # nobody connected, or the client sent nothing
                if time.monotonic() < deadline:
                    continue
                raise TrainingError(
                    f"Expected {len(addresses)} hosts at {name}:{port} within {PATIENCE:.0f} s, still missing: "
                    f"{', '.join(sorted(awaited))}. Start the same training there, with that host's number."
                ) from None
            lines.append(guests.enter_context(line))
            awaited.discard(said)
        for line in lines:
            line.sendall(_ALL_HERE)


def share() -> Share:
    """Return this host's share of the training; all of it if `use` was not called."""
    import keras

    distribution = keras.distribution.distribution()
    if distribution is None:
        return Share()
    import jax

    return Share(jax.process_index(), jax.process_count(), distribution.device_mesh.devices.size)


def leave() -> None:
    """Disconnect from the other devices and hosts, so that everything after this runs on this host alone."""
    import keras

    if keras.distribution.distribution() is None:
        return
    import jax

    keras.distribution.set_distribution(None)
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def check_equal(what: str, value: str) -> None:
    """Check that a value is the same on every host.

    Args:
        what: a name of the value for the message.
        value: the value on this host.

    Raises:
        TrainingError: it is different on another host.
    """
    if share().hosts == 1:
        return
    from jax.experimental import multihost_utils

    mine = np.frombuffer(hashlib.sha256(value.encode()).digest(), dtype=np.uint8)
    if len(np.unique(multihost_utils.process_allgather(mine), axis=0)) > 1:
        raise TrainingError(f"Expected the same {what} on every host, got different ones: give each host the same.")


def predictor(model: keras.Model) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """Return a function that runs a model on each host's `own` part of a batch, and returns the outputs for all of it.

    Example:
        >>> predictor(network)(images[..., None]).shape
        (4, 1)
    """
    import keras

    distribution = keras.distribution.distribution()
    if distribution is None:
        return lambda batch: np.asarray(model.predict_on_batch(batch))

    import jax

    everywhere = jax.sharding.NamedSharding(
        distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec()
    )  # Keras's own `predict` gives each host only the outputs of its own devices

    def outputs(trained: list[Any], fixed: list[Any], batch: Any) -> Any:  # noqa: ANN401 - JAX arrays
        return model.stateless_call(trained, fixed, batch, training=False)[0]

    compiled = jax.jit(outputs, out_shardings=everywhere)

    def predict(batch: NDArray[np.float32]) -> NDArray[Any]:
        layout = distribution.get_data_layout(batch.shape).backend_layout
        whole = jax.make_array_from_process_local_data(layout, batch)
        values = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
        return np.asarray(compiled(*values, whole))

    return predict


def _address(text: str) -> tuple[str, int]:
    name, _, port = text.strip().rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise TrainingError(f"Expected the address of a host as name:port, got '{text}'.")
    return name, int(port)


def _report(address: tuple[str, int], host: int, hosts: int, deadline: float) -> None:
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(address, timeout=5.0) as line:
                line.sendall(_greeting(host, hosts).encode())
                line.settimeout(max(0.01, deadline - time.monotonic()))
                if line.recv(16) == _ALL_HERE:
                    return
        except OSError as error:
            reason = error.strerror or str(error)
        time.sleep(0.2)
    raise TrainingError(
        f"Expected host 0 at {address[0]}:{address[1]} within {PATIENCE:.0f} s, got: {reason}. Start the same training "
        "there as host 0, and check that the port is open."
    )


def _greeting(host: int, hosts: int) -> str:
    return f"host {host} of {hosts}"
