"""The one form in which networks are saved: data/{pretext,scan,selflabel}/model.pt.

A file holds plain tensors, numbers and texts only, so that loading it never runs code from it.
"""

import io
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from stages.plumbing.errors import UserError

FORMAT = 1


class Configured(Protocol):
    """A network that can be built again from its `config` of plain numbers and texts."""

    config: dict

    @classmethod
    def from_config(cls, config: dict) -> "Configured":
        """The network with fresh weights."""


Model = TypeVar("Model", bound=Configured)


def save_model(path: Path, model: nn.Module) -> None:
    """Write a configured network; equal weights give equal bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    content = {"format": FORMAT, "kind": type(model).__name__, "config": model.config, "state": state}
    # Through memory: torch.save would write the file's own name into the archive.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())


def load_model(path: Path, kind: type[Model]) -> Model:
    """The network of that kind that `save_model` wrote, in evaluation mode, on the CPU. UserError if it is not one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if (content["format"], content["kind"]) != (FORMAT, kind.__name__):
            raise ValueError(f"it holds {content['kind']} in format {content['format']}, expected {kind.__name__}")
        model = kind.from_config(content["config"])
        model.load_state_dict(content["state"])
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not the model it should be ({reason}); run the stage that makes it again") from None
    return model.eval()
