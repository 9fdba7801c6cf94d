"""`python -m mercury_lsp`, which editors never use: they start the `mercury-lsp` script."""

import sys

# Started with -m, Python puts the working directory first: a user's workspace, whose files would
# be imported in place of other packages.
if not sys.flags.safe_path:
    del sys.path[0]

from mercury_lsp.cli.main import main

main()
