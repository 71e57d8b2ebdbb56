"""Exceptions out of nowhere: a signal, a time limit of a worker, Ctrl-C, at every line of an operation."""
