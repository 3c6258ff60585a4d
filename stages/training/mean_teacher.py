"""An exponential moving average of a network, kept apart from the weights that learn."""

from copy import deepcopy

from torch import nn

from stages.training import ema


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

    def follow(self) -> None:
        """Take one step of the average; call it after each step of the student's optimiser."""
        if self.decay:
            # BatchNorm's running statistics belong to the average as the weights do.
            ema.follow(self.teacher.state_dict().values(), self.student.state_dict().values(), self.decay)
