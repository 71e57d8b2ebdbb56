"""``python -m flask_convstore --url redis://host:6379/0 …``: the commands for operators who have no app."""

from .cli.group import convstore

if __name__ == "__main__":
    convstore(prog_name="python -m flask_convstore")
