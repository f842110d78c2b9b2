"""`edgellama bench report RESULT.json… -o report.html`: a page or plots of saved benchmark records."""

import argparse

from edgellama.commands import tool_packages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tool_packages.require("bench")
    from bench import report_files

    report_files.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Write the files; 0. Raises EdgellamaError for records that are none."""
    from bench import report_files

    return report_files.main(args)
