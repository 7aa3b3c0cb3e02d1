"""`python -m stack.capacity` is `make capacity`."""

import sys

from stack.capacity.report import main

if __name__ == "__main__":
    sys.exit(main())
