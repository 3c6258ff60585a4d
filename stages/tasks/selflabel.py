"""What one batch of self-labeling is: a plain view and a strong one of each image."""

import numpy as np
import torch
from torch import Tensor

from stages.images.loading import Images
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import PlainView
from stages.losses.confident import confident_loss, pseudo_labels
from stages.plumbing.errors import UserError
from stages.training import processes
from stages.training.mean_teacher import MeanTeacher


class SelfLabeling:
    """A batch of self-labeling: what the teacher is sure of on plain images, the student learns on strong views."""

    def __init__(
        self, pair: MeanTeacher, images: Images, strong: StrongSettings, threshold: float, class_weights: bool
    ):
        input = pair.student.encoder.input
        self.pair, self.images, self.threshold, self.class_weights = pair, images, threshold, class_weights
        self.plain, self.strong = PlainView(input.mean, input.std), StrongViews(strong, input.mean, input.std)
        self.idle, self.learning = 0, 0

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Plain and strong views of the images of this process, (B, C, H, W), and the size of the global batch."""
        own = processes.share(len(rows))
        images, draws = self.images(rows[own]), self.strong.draw(len(rows), generator).slice(own.start, own.stop)
        return self.plain(images), self.strong(images, draws), len(rows)

    def step(self, plain: Tensor, strong: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss, unless nothing is confident; the share that is. UserError if nothing is in a whole epoch."""
        # In evaluation mode: pseudo-labels that went through batch statistics would drift with the batches, and so
        # would the running averages that the final model answers with.
        self.pair.teacher.eval()
        with torch.no_grad():
            probabilities = self.pair.teacher(plain)[0].softmax(dim=1)
        # Where teacher and student are one, older torch would give the student the teacher's cached casts of the
        # weights, which carry no gradient.
        torch.clear_autocast_cache()
        confident = pseudo_labels(processes.gather(probabilities, rows), self.threshold)
        share = confident.mask.float().mean()
        if share == 0:
            self.idle += 1
            if not self.learning and self.idle * rows > len(self.images) - rows:
                raise UserError(
                    f"no image is sure of its cluster above selflabel.threshold = {self.threshold}; lower it, "
                    "or let scan get surer (more scan.epochs, a smaller scan.entropy_weight)"
                )
            return {"confident": share, "skipped": torch.ones(())}
        self.learning += 1
        self.pair.student.train()
        logits = processes.gather(self.pair.student(strong)[0], rows)
        loss = confident_loss(logits, confident, self.class_weights)
        return {"loss": loss, "confident": share, "skipped": torch.zeros(())}
