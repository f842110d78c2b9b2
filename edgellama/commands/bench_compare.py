"""`edgellama bench compare A.json B.json …`: saved benchmark records side by side."""

import argparse

from edgellama.commands import tool_packages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tool_packages.require("bench")
    from bench import compare_records

    compare_records.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print the comparison; 0. Raises EdgellamaError for what is no record, or holds nothing to compare."""
    from bench import compare_records

    return compare_records.main(args)
