"""Set up .venv with what a file of requirements names, as make does it: `python3 install.py requirements.txt`.

It says what that is and how large, and nobody waits for minutes without a word. It needs no package, and is kept so
plain that an older Python can still read it and say that it is too old.
"""

import argparse
import os
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)  # the line in requirements.txt that stops pip under others says the same
VENV = ".venv"
PYTHON = os.path.join(VENV, "bin", "python")
TEMPORARY = os.path.join(VENV, "tmp")  # beside what is installed: /tmp is small on many machines, or memory
PIP = "pip==26.3"  # one for all; those that come with Python 3.11 to 3.13 unpack for a minute without a word
# What is worth a name, gigabytes on Linux, where most is for GPUs (elsewhere it is less), and how long the first time.
ABOUT = {
    "requirements.txt": ("PyTorch, DVC, faiss", 6.8, "some minutes"),
    "requirements-test.txt": ("pytest, ruff, Playwright", 0.3, "half a minute"),
}
PAUSE = 20  # seconds between two lines, where nobody sees pip's own bars


def main(requirements: str) -> None:
    """Install what the file names into .venv, or end with a line that says what to do."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(
            f"Python {dotted(OLDEST)} to {dotted(NEWEST)} is needed; this is {dotted(sys.version_info[:3])}. "
            f"Name another one: make repro PYTHON=python{dotted(OLDEST)}"
        )
    names, size, time = ABOUT[requirements]
    others = pinned(requirements) - len(names.split(","))
    say(f"Installing into {VENV}: {names} and {others} others, up to {size} GB, {time} the first time")
    if free() < size:
        say(f"Only {free():.1f} GB are free here; docs/questions.md has a smaller PyTorch, for machines without a GPU")
    # What another Python left there is of no use to this one.
    new = not os.path.isdir(os.path.join(VENV, "lib", f"python{dotted(sys.version_info[:2])}"))
    if subprocess.call([sys.executable, "-m", "venv", *(["--clear"] if new else []), VENV]):
        sys.exit(f"Making {VENV} failed, see above. On Debian and Ubuntu: apt-get install python3-venv")
    if pip("--quiet", PIP) or pip("-r", requirements):
        sys.exit(
            f"Installing failed, see above. It needs a network, and room: {free():.1f} GB are free here. "
            "The same command goes on"
        )


def pip(*arguments: str) -> int:
    """Let pip install something, and return its exit status. On a terminal it shows its bars, else the size grows."""
    shutil.rmtree(TEMPORARY, ignore_errors=True)
    os.mkdir(TEMPORARY)
    pause = None if sys.stdout.isatty() else PAUSE
    options = ["--disable-pip-version-check"] + (["--quiet"] if pause else [])
    command = [PYTHON, "-m", "pip", "install", *options, *arguments]
    process = subprocess.Popen(command, env=dict(os.environ, TMPDIR=os.path.abspath(TEMPORARY)))
    while True:
        try:
            status = process.wait(pause)
        except subprocess.TimeoutExpired:
            say(f"  {gigabytes(VENV):.1f} GB so far, downloads included")
        else:
            break
    shutil.rmtree(TEMPORARY, ignore_errors=True)
    return status


def pinned(requirements: str) -> int:
    """How many packages a file names itself."""
    with open(requirements, encoding="utf-8") as file:
        return sum("==" in line for line in file if not line.startswith("#"))


def gigabytes(folder: str) -> float:
    """The size of what a folder holds, while files come and go there."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total / 1e9


def free() -> float:
    """Gigabytes of room on this disk."""
    return shutil.disk_usage(".").free / 1e9


def dotted(version: tuple) -> str:
    """(3, 11) as 3.11."""
    return ".".join(str(number) for number in version)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("requirements", choices=sorted(ABOUT), help="the file that says what to install")
    try:
        main(parser.parse_args().requirements)
    except KeyboardInterrupt:
        sys.exit("\nBroken off; the same command goes on")
