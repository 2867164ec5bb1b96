"""The demonstration: a dinner hour of a small country through the real system, with faults, judged from the outside."""

from console.demo.command import demo

__all__ = ["demo"]
