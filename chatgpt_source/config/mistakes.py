"""What is wrong with a configuration."""


class ConfigError(Exception):
    """What is wrong with the configuration.

    Attributes:
        mistakes: One line each, starting with the key, with what it must be.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes
