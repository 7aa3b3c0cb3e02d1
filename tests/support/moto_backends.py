"""Imports moto's backends once, in the process that the lab's test processes are forked from: it takes two seconds."""

from lab.programs.services import load

load()
