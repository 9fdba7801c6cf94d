"""The language server: the only place that knows the protocol.

`serve_stdio`, `serve_tcp` and `serve_pipe` serve one editor to its end and return the exit code:
0 after a shutdown that was asked for, 1 otherwise (LSP 3.18, "Exit Notification").
"""

from mercury_lsp.lsp.transport import serve_pipe, serve_stdio, serve_tcp

__all__ = ["serve_pipe", "serve_stdio", "serve_tcp"]
