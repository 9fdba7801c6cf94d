"""What may be said of an error that nobody expected."""


def describe(error: BaseException) -> str:
    """The kind of an error and the place in the code; its message could hold source text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname} ({code.co_filename}:{trace.tb_lineno})"
