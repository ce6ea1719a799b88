"""`python -m keras_mgs …`: see `keras_mgs.cli`."""

import sys

from keras_mgs.cli import main

if __name__ == "__main__":
    sys.exit(main())
