"""How a long stage says that it lives: a bar on a terminal, a plain line now and then elsewhere."""

import os
import sys
import time

from tqdm import tqdm

from stages.plumbing import live
from stages.plumbing.launch import first

PLAIN_INTERVAL = 15.0  # seconds between lines where the output is no terminal
WARM_UP = 5.0  # seconds of work before a remaining time is told: the first steps also prepare, and mislead
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"  # tqdm's own without what remains


class Progress:
    """Counts work and shows its rate; after a warm-up the remaining time, of the whole run where known.

    A total of 0 is one that nobody knows. Of the unit "bytes" people see megabytes. `whole` says that this is the last
    work of its stage, so that what remains of the whole run can be told.

    >>> with Progress("embed train", total=len(images)) as progress:
    ...     progress.advance(256)
    """

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "images", whole: bool = True):
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self.start = self.shown = time.monotonic()
        self.begun_at = done
        self.warm = False
        self.rest = live.rest_of_run(os.environ.get("DVC_STAGE", "")) if whole else None
        self.bar = None
        if sys.stderr.isatty() and first():
            self.bar = tqdm(
                total=total or None,
                initial=done,
                desc=title,
                unit=f" {unit}",
                unit_scale=True,
                dynamic_ncols=True,
                bar_format=BAR if total else None,
            )

    def advance(self, amount: int, note: str = "") -> None:
        """Count so much more; `note` is shown beside the numbers (say, the loss)."""
        self.done += amount
        now = time.monotonic()
        if not self.warm and now - self.start >= WARM_UP:
            self.warm, self.start, self.begun_at = True, now, self.done
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(filter(None, [self._left(), note])), refresh=False)
            self.bar.update(amount)
        elif now - self.shown >= PLAIN_INTERVAL and (not self.total or self.done < self.total):
            self.shown = now
            self._line(self._left(), note)

    def _rate(self) -> float:
        return (self.done - self.begun_at) / max(time.monotonic() - self.start, 1e-9)

    def _left(self) -> str:
        """What remains in words; "" as long as nobody can know."""
        if not self.warm or self.done == self.begun_at or self.done >= self.total:
            return ""
        left = (self.total - self.done) / self._rate()
        whole = f", {_clock(left + self.rest)} for all stages" if self.rest is not None else ""
        return f"{_clock(left)} left{whole}"

    def _line(self, state: str, note: str = "") -> None:
        share = f"{100 * self.done / self.total:3.0f} %" if self.total else self._amount(self.done)
        rate = f"{self._amount(self._rate())}/s" if self.done > self.begun_at else ""
        print(" · ".join(filter(None, [self.title, share, rate, state, note])), flush=True)

    def _amount(self, count: float) -> str:
        return f"{count / 1e6:,.0f} MB" if self.unit == "bytes" else f"{count:,.0f} {self.unit}"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            self._line("done" if self.done >= self.total else "broke off")


def _clock(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes: "4:05", "2 h 10 min"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
