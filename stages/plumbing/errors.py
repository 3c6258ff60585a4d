"""The one kind of error that is worded for people."""


class UserError(Exception):
    """A mistake that the user can mend: one line that names the key, file or image, what was expected, the way out."""
