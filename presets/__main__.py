"""`python -m presets <name>`; see presets/overlay.py."""

from presets.overlay import main

if __name__ == "__main__":
    main()
