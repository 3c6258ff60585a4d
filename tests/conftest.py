"""Tests run on the CPU, also where there is a GPU: they compare bytes, and several of them run at once."""

import os

os.environ.setdefault("DEVICE", "cpu")
os.environ["LIVE"] = ""  # in-process training would write into the working folder; its own test switches it on
