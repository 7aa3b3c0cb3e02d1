"""`python -m stack.deploy` is what `make deploy` and `make protect` call."""

import sys

from stack.deploy.deployment import main

if __name__ == "__main__":
    sys.exit(main())
