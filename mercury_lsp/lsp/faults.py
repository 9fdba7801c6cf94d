"""How unexpected errors are described in logs."""


def describe(error: BaseException) -> str:
    """The type of an error and its place in the code. Its message could contain source text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname} ({code.co_filename}:{trace.tb_lineno})"
