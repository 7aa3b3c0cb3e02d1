"""`python -m stack.diagram` is `make map`."""

import sys

from stack.diagram.maps import main

if __name__ == "__main__":
    sys.exit(main())
