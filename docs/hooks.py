"""Hook of ``make docs`` that draws the picture of the wings as boxes. Mermaid, which GitHub has, would be fetched."""

from __future__ import annotations

import re
from typing import Any

PICTURE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NODE = re.compile(r'^ +\w+\["(.+)<br>(.+)"\]$', re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put boxes in the place of a picture whose nodes stand below each other."""
    return PICTURE.sub(lambda found: _boxes(found[1]), markdown)


def _boxes(picture: str) -> str:
    boxes = "".join(f"<li><strong>{name}</strong><br>{job}</li>" for name, job in NODE.findall(picture))
    return f'<ol class="picture">{boxes}</ol>'
