"""Commands for operators: ``flask convstore …`` in an app, ``python -m flask_convstore …`` without one."""
