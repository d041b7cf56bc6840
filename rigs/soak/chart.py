"""A curve in plain text."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 64, 12


def draw(points: Sequence[tuple[float, float]], *, title: str) -> str:
    """Draw the points from zero up; those of equal place are averaged."""
    if not points:
        return title
    last = max(x for x, _ in points) or 1.0
    top = max(y for _, y in points) or 1.0
    columns: dict[int, list[float]] = {}
    for x, y in points:
        columns.setdefault(min(WIDTH - 1, int(x / last * WIDTH)), []).append(y)
    heights = {
        column: round(sum(ys) / len(ys) / top * (HEIGHT - 1)) for column, ys in columns.items()
    }
    rows = [title]
    for row in reversed(range(HEIGHT)):
        line = "".join("o" if heights.get(column) == row else " " for column in range(WIDTH))
        rows.append(f"{top * row / (HEIGHT - 1):8.1f} |{line}".rstrip())
    rows.append(f"{'':8} +{'-' * WIDTH}")
    rows.append(f"{'':9} 0{f'{last:,.0f}':>{WIDTH - 1}}")
    return "\n".join(rows)
