"""`python -m stack.cost` is `make cost`."""

import sys

from stack.cost.report import main

if __name__ == "__main__":
    sys.exit(main())
