"""The only place where what can go wrong with the local stack is named: each error says the problem and the remedy.

StackError
├── MissingToolError       Java, Maven, a package or a wheel is not there (or too old)
├── PortTakenError         another process listens where a server of ours should
├── DiskFullError          less room than the three servers need
├── ServerDiedError        a server ended while it started, or never became ready; carries the end of its log
└── StackBusyError         another `rushline up` or `down` is at work on the same home
"""


class StackError(Exception):
    """The local stack cannot do what was asked. `problem` is one sentence, `remedy` is what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class MissingToolError(StackError):
    pass


class PortTakenError(StackError):
    pass


class DiskFullError(StackError):
    pass


class ServerDiedError(StackError):
    pass


class StackBusyError(StackError):
    pass
