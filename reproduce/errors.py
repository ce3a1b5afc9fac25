"""The one error that the command line prints as a sentence instead of a traceback."""


class UserError(Exception):
    """Something that the user can put right; the message names the offending value and the way out."""
