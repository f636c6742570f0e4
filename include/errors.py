"""What goes wrong for a reason that a retry cannot mend."""


class InputError(ValueError):
    """Bad input data: the message names the file, the column and the rows, and says what to do."""


class ConfigurationError(ValueError):
    """Bad configuration: the message names the connection or variable and says what to do."""
