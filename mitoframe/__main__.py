"""``python -m mitoframe`` is ``mito``."""

from mitoframe.cli.main import mito

mito(prog_name="mito")
