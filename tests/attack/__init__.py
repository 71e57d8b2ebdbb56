"""Attacks on an app with the blueprint, each kind in a module: bodies, timing, paths.

``make attack`` runs them all, for some minutes at most. A module has ``run()``, which prints what it finds and returns the
failures. ``__main__`` lists the modules.
"""
