"""``python -m study`` is ``filter-study``."""

from study.cli import main

main()
