"""An exponential moving average of a network, kept apart from the weights that learn."""

from copy import deepcopy

import torch
from torch import nn


class MeanTeacher(nn.Module):
    """A student that learns and a teacher that follows it: teacher ← decay · teacher + (1 - decay) · student.

    The average never flows back into the student. With decay 0 the teacher is the student itself.
    (Tarvainen and Valpola 2017, arXiv 1703.01780.)
    """

    def __init__(self, student: nn.Module, decay: float):
        super().__init__()
        self.student = student
        self.teacher = deepcopy(student).requires_grad_(False) if decay else student
        self.decay = decay

    @torch.no_grad()
    def follow(self) -> None:
        """Take one step of the average; call it after each step of the student's optimiser."""
        if not self.decay:
            return
        # BatchNorm's running statistics belong to the average as the weights do; its counter of batches is no average.
        for mine, theirs in zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - self.decay)
            else:
                mine.copy_(theirs)
