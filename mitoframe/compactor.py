"""The program that merges files of a store for the process that writes it: ``python -m mitoframe.compactor FOLDER``.

It is started by that process, takes jobs from it (drivers/compactor_processes.py), and ends with it. It takes no lock,
reads no log and no manifest, and lists nothing: a file it stores counts for nothing before the other has committed it.
"""

from __future__ import annotations

import sys

from mitoframe.registry import merge_for_others

if __name__ == "__main__":
    merge_for_others(sys.argv[1])
