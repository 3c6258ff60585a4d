"""Which of several processes this one is, as torchrun says it in the environment."""

import os
from typing import NamedTuple

from stages.plumbing.errors import UserError

COUNTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE")  # what torchrun sets and nobody else means
MEETING = ("MASTER_ADDR", "MASTER_PORT")  # where the processes meet; by themselves they say nothing


class Launch(NamedTuple):
    """How this process was started: alone is (0, 0, 1)."""

    rank: int  # among all processes
    local_rank: int  # among those of this machine: the number of its GPU
    count: int  # of all processes


def launch() -> Launch:
    """Read torchrun's variables. UserError where they are not whole or not sound.

    A RANK that was left over in a shell would make a stage take itself for a helper of another process: it would run
    to its end and write nothing.
    """
    given = {name: os.environ[name] for name in (*COUNTED, *MEETING) if os.environ.get(name)}
    if not any(name in given for name in COUNTED):
        return Launch(0, 0, 1)
    missing = [name for name in (*COUNTED, *MEETING) if name not in given]
    if missing:
        present = ", ".join(f"{name}={given[name]}" for name in COUNTED if name in given)
        raise UserError(f"the environment has {present} but no {', '.join(missing)}; {_way_out()}")
    numbers = {name: int(given[name]) for name in COUNTED if given[name].isascii() and given[name].isdigit()}
    if len(numbers) == len(COUNTED):
        found = Launch(*(numbers[name] for name in COUNTED))
        if found.rank < found.count and found.local_rank < found.count:
            return found
    said = ", ".join(f"{name}={given[name]}" for name in COUNTED)
    raise UserError(f"the environment has {said}; expected whole numbers, the ranks below WORLD_SIZE; {_way_out()}")


def first() -> bool:
    """Whether this is the only process of its stage, or the first one: the one that writes and speaks."""
    return launch().rank == 0


def _way_out() -> str:
    return f"start the stage by torchrun, or, if they are left over: unset {' '.join(COUNTED)}"
