"""`python -m keras_music`: the command line, where `keras-music` is not on the PATH.

What this file does not do: anything else. See `keras_music.cli`.
"""

import sys

from keras_music.cli import main

if __name__ == "__main__":
    sys.exit(main())
