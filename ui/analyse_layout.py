"""What the Analyse tab shows, apart from how it is drawn: the page can be laid out before plotly is imported."""

from __future__ import annotations

# name, heading, height of the drawing in pixels
CHARTS: tuple[tuple[str, str, int], ...] = (
    ("stages", "Stages: relevance, graph, picks one by one", 430),
    ("questions", "Several questions, one picture (Figures 7 and 8)", 430),
    ("budgets", "The answer over budgets", 310),
    ("preferences", "What four kinds of methods prefer (Figure 5)", 230),
    ("locality", "Near patches and far ones (Figure 3)", 310),
    ("entropy", "Detail and similarity (Figure 4)", 330),
    ("masks", "Redundancy masks (Figure 9)", 300),
    ("determinants", "Determinant and average similarity (Figure 6)", 340),
    ("redundancy", "How much of the matrix is needed? (Table 1)", 210),
)
HEIGHTS = {name: height for name, _, height in CHARTS} | {"edit": 360}

# On a phone: drawings side by side go into this many columns, each row of them this high in pixels.
NARROW = {
    "questions": (1, 300),
    "budgets": (1, 240),
    "preferences": (2, 175),
    "locality": (1, 240),
    "entropy": (2, 175),
    "masks": (3, 125),
}
NARROW_TABLES = {"redundancy": 230}  # the heads wrap there
_ROWS = (("top left", "top", "top right"), ("left", "middle", "right"), ("bottom left", "bottom", "bottom right"))
PLACES = {
    name: (col / 3, row / 3, (col + 1) / 3, (row + 1) / 3)
    for row, names in enumerate(_ROWS)
    for col, name in enumerate(names)
}
NOWHERE = "no region"
