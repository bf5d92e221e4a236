"""`trimtab demo`: the whole loop on real parts, against round robin, in about a minute. Nothing is left running."""

from controller.demo.command import add_arguments, demo_main, run

__all__ = ["add_arguments", "demo_main", "run"]
