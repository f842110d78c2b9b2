"""One module for each subcommand, with `add_arguments(parser)` and `main(args) -> exit code`."""

from edgellama.errors import EdgellamaError


class UsageError(EdgellamaError):
    """Arguments that make no sense together. The command line points to --help and exits with 2."""
