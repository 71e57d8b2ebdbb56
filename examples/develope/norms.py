"""A few norms, and the words of a description that speak for each. The list is an example, and no legal advice."""

from __future__ import annotations

import re
from typing import Any

NORMS = {
    "ASTM F963": ("Consumer safety specification for toys", "toy toys child children play usa us america"),
    "EN 71-1": ("Safety of toys: mechanical and physical properties", "toy toys child children play europe eu"),
    "EN 71-3": ("Safety of toys: migration of certain elements", "toy toys child children painted paint europe eu"),
    "EN IEC 62115": ("Electric toys: safety", "toy toys electric battery motor europe eu"),
    "EN 1022": ("Furniture: stability of seating", "chair stool bench seat furniture europe eu"),
    "IEC 60335-1": ("Household electrical appliances: safety", "appliance electric motor household kitchen home"),
    "ISO 8124-1": ("Safety of toys: mechanical and physical properties", "toy toys child children play world"),
    "ISO 10993-1": ("Biological evaluation of medical devices", "medical patient patients skin implant hospital"),
    "EN ISO 12100": ("Safety of machinery: risk assessment", "machine machinery tool motor industry worker workers"),
    "EN ISO 13688": ("Protective clothing: general requirements", "clothing glove gloves textile worker workers"),
}
"""Title and words of each norm, by its number."""

ENOUGH = 2
"""Number of its words that make a norm a match."""


def results(description: str) -> list[dict[str, Any]]:
    """All norms with their words in *description*, the best first."""
    words = set(re.findall(r"[a-z]+", description.lower()))
    found = [
        {"norm": norm, "title": title, "words": sorted(words & set(speaking.split()))}
        for norm, (title, speaking) in NORMS.items()
    ]
    return sorted(found, key=lambda result: (-len(result["words"]), result["norm"]))
