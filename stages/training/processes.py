"""Several processes, one per device, that work on one global batch.

Every process draws the same numbers, takes its share of each global batch, and gathers from all what a loss looks at.
So every loss is the global one, in every process, and the losses do not know how many processes there are: NT-Xent
sees the negatives of all, SCAN's mean assignment is the mean over all. Gradients flow into a process's own share only;
their sum over the processes is the gradient of the global loss.

Processes come from torchrun, or, where several GPUs are visible, a stage starts itself under it.
"""

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from stages.plumbing.errors import UserError
from stages.plumbing.launch import launch
from stages.training.devices import computed, device

T = TypeVar("T")

# The first process scores heads and writes while the others wait for it; torchrun ends them all when one dies.
PATIENCE = timedelta(hours=6)
MEETING = timedelta(minutes=2)  # until all processes have started
BUSY = 1.6  # processes that want a core each, from which on a machine counts as busy; a stage before this one takes 1


def run(call: Callable[[], None]) -> None:
    """Run `call` in as many processes as there are to be: under torchrun, one for each visible GPU, or just here."""
    if launch().count > 1:
        if device().type == "mps" or ":" in os.environ.get("DEVICE", ""):
            raise UserError(f"several processes cannot share {device()}; unset DEVICE, or set it to cpu or cuda")
        _meet()
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if first() else nowhere):
                _announce()
                call()
        except BaseException:
            # The others wait in a collective that this process will never join, and to leave the group is one, too:
            # say what happened and go; torchrun then ends them.
            atexit.register(_leave)
            raise
        dist.destroy_process_group()
    elif _one_for_each_gpu():
        sys.stdout.flush()
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={torch.cuda.device_count()}"]
        stage = sys.modules["__main__"].__spec__.name
        os.execv(sys.executable, [sys.executable, "-m", *torchrun, "-m", stage, *sys.argv[1:]])
    else:
        _announce()
        call()


def _one_for_each_gpu() -> bool:
    """Whether this process, which nobody started beside others, shall do so: it can be started again by its name."""
    chosen = os.environ.get("WORLD_SIZE") or os.environ.get("DEVICE")
    return not chosen and torch.cuda.device_count() > 1 and bool(sys.modules["__main__"].__spec__)


def _announce() -> None:
    """Say what computes, and how: both decide the last digits of the result."""
    made_by, load = computed(), os.getloadavg()[0]
    print(f"computing in {made_by['precision']} on {made_by['device']} ({made_by['processor']})", flush=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if made_by["device"] == "cpu" and torch.get_num_threads() > 1 and load > BUSY * cores:
        # Threads wait for each other at every layer, and for a turn of the processor each time.
        print(
            f"the machine is busy with other work (load {load:.1f} on {cores} cores): OMP_NUM_THREADS=1 may be "
            "ten times faster than several threads that wait for each other",
            flush=True,
        )


def _meet() -> None:
    """Join the other processes. UserError if they do not come: variables of a torchrun that is over look like one."""
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=MEETING))
    except (dist.DistError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(
            f"process {launch().rank} of {launch().count} met no other within {MEETING.seconds} s ({reason}); start "
            "all by torchrun, or, if that is over: unset RANK LOCAL_RANK WORLD_SIZE"
        ) from None
    backend = "nccl" if device().type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def count() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this is the process that writes and speaks."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(rows: int) -> slice:
    """Which of so many rows are this process's: as many as the others have, give or take one."""
    return _shares(rows)[dist.get_rank() if dist.is_initialized() else 0]


def gather(own: Tensor, rows: int, dim: int = 0) -> Tensor:
    """The rows of all processes in order, so many in all, from each one's `share` of them along `dim`.

    Gradients flow into the own share only, the others' are numbers here; see the module's docstring.
    """
    if count() == 1:
        return own
    own = own.movedim(dim, 0)
    lengths = [part.stop - part.start for part in _shares(rows)]
    # Collectives want equal shapes: shorter shares are filled up and cut again.
    filled = F.pad(own.detach(), [0, 0] * (own.ndim - 1) + [0, max(lengths) - len(own)]).contiguous()
    parts = [torch.empty_like(filled) for _ in lengths]
    dist.all_gather(parts, filled)
    parts = [part[:length] for part, length in zip(parts, lengths, strict=True)]
    parts[dist.get_rank()] = own
    return torch.cat(parts).movedim(0, dim)


def broadcast(value: T) -> T:
    """The first process's value, in all of them."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, device=device())
    return box[0]


def add_gradients(module: nn.Module) -> None:
    """Replace every gradient by its sum over the processes."""
    if count() > 1:
        works = [dist.all_reduce(p.grad, async_op=True) for p in module.parameters() if p.grad is not None]
        for work in works:
            work.wait()


def synchronise_batchnorm(module: nn.Module) -> nn.Module:
    """The module with BatchNorm that takes its statistics over the global batch; unchanged in a single process."""
    if count() == 1:
        return module
    if device().type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in list(module.modules()):
        child.__class__ = {nn.BatchNorm1d: _SyncBatchNorm1d, nn.BatchNorm2d: _SyncBatchNorm2d}.get(
            type(child), child.__class__
        )
    return module


class _SyncBatchNorm:
    """What torch's SyncBatchNorm does on GPUs only, for the CPU."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return super().forward(values)
        others = [0, *range(2, values.ndim)]  # all but the channels
        real = values.double()  # a variance as a difference of large sums needs the digits
        ones = real.new_full((values.shape[1],), values[:, 0].numel())
        total, squares, n = _Sum.apply(torch.stack([real.sum(others), real.square().sum(others), ones]))
        mean = total / n
        variance = (squares / n - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((variance * n / (n - 1).clamp_min(1)).float(), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        offset = self.bias - mean * scale
        shape = [-1, *[1] * (values.ndim - 2)]
        return values * scale.float().view(shape) + offset.float().view(shape)


class _SyncBatchNorm1d(_SyncBatchNorm, nn.BatchNorm1d):
    pass


class _SyncBatchNorm2d(_SyncBatchNorm, nn.BatchNorm2d):
    pass


class _Sum(torch.autograd.Function):
    """The sum over all processes; what it changes in any of them comes back to each."""

    @staticmethod
    def forward(context: object, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _shares(rows: int) -> list[slice]:
    n = count()
    return [slice(rank * rows // n, (rank + 1) * rows // n) for rank in range(n)]
