"""How a long stage says that it lives: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time

from tqdm import tqdm

from stages.training import processes

PLAIN_INTERVAL = 15.0  # seconds between lines where the output is no terminal


class Progress:
    """Counts images and shows images per second and the remaining time.

    >>> with Progress("embed train", total=len(images)) as progress:
    ...     progress.advance(256)
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self.title, self.total, self.done = title, total, done
        self.start = self.shown = time.monotonic()
        self.begun_at = done
        self.bar = None
        if sys.stderr.isatty() and processes.first():
            self.bar = tqdm(total=total, initial=done, desc=title, unit=" images", unit_scale=True, dynamic_ncols=True)

    def advance(self, images: int, note: str = "") -> None:
        """Count `images` more; `note` is shown beside the numbers (say, the loss)."""
        self.done += images
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(images)
        elif time.monotonic() - self.shown >= PLAIN_INTERVAL and self.done < self.total:
            self.shown = time.monotonic()
            self._line(note)

    def _line(self, note: str) -> None:
        rate = (self.done - self.begun_at) / max(time.monotonic() - self.start, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        share = f"{100 * self.done / self.total:3.0f} %"
        clock = f"{int(left) // 60}:{int(left) % 60:02d} left" if self.done < self.total else "done"
        print(" · ".join(filter(None, [self.title, share, f"{rate:,.0f} images/s", clock, note])), flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            self._line("")
