"""The paper's figures for one crop or frame: data, drawing and a line that says what it shows for this picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from script_core.analysis import bounds, detail, estimation, locality
from script_core.analysis.plane import Plane
from script_core.analysis.preferences import Preference, overlap
from ui.analyse_charts import BLUE, ORANGE, PINK, TEAL, Chart, dots, grid_axes, heat, inside, panels, place

SUBSETS = 160


def near_and_far(plane: Plane) -> Chart:
    """Figure 3."""
    by, pair = locality.by_distance(plane), locality.near_and_random(plane)
    figure = make_subplots(
        1, 2, subplot_titles=("Similarity by distance", "Neighbours and random pairs"), column_widths=[0.55, 0.45]
    )
    band = {"x": by.distance, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_trace(go.Scatter(y=by.high, **band), 1, 1)
    figure.add_trace(go.Scatter(y=by.low, fill="tonexty", fillcolor="rgba(0,158,115,.2)", **band), 1, 1)
    figure.add_trace(go.Scatter(x=by.distance, y=by.mean, name="mean (band: middle half)", line={"color": TEAL}), 1, 1)
    for values, name, colour in ((pair.near, "neighbours", BLUE), (pair.random, "random pairs", ORANGE)):
        counts, edges = np.histogram(values, bins=40, range=(-1, 1))
        line = {"color": colour, "shape": "hvh"}
        middles = (edges[1:] + edges[:-1]) / 2
        figure.add_trace(go.Scatter(x=middles, y=counts / counts.sum(), name=name, line=line), 1, 2)
    figure.update_xaxes(title="Manhattan distance", row=1, col=1)
    figure.update_xaxes(title="cosine similarity", row=1, col=2)
    said = (
        f"Neighbouring tokens have a mean similarity of {pair.near.mean():.2f}, random pairs {pair.random.mean():.2f}; "
        f"a neighbouring pair is the more similar one {100 * pair.chance:.0f} % of the time."
    )
    rows = list(
        zip(by.distance.tolist(), by.mean.tolist(), by.low.tolist(), by.high.tolist(), by.pairs.tolist(), strict=True)
    )
    return Chart("locality", figure, said, ("distance", "mean", "quartile_1", "quartile_3", "pairs"), rows)


def entropy_and_similarity(plane: Plane) -> Chart:
    """Figure 4."""
    entropy, alike = detail.local_entropy(plane), detail.local_similarity(plane)
    found = detail.rank_correlation(entropy, alike)
    figure = panels(("Local entropy (nats)", "Local similarity"))
    figure.add_trace(heat(plane, entropy, "Magma", 0, float(entropy.max()) or 1), 1, 1)
    figure.add_trace(heat(plane, alike, "Cividis", float(alike.min()), float(alike.max())), 1, 2)
    grid_axes(figure, plane)
    strong = "strongly" if abs(found.rho) >= 0.6 else "moderately" if abs(found.rho) >= 0.3 else "hardly"
    way = "the more detail, the less alike" if found.rho < 0 else "the more detail, the more alike, unlike in the paper"
    said = f"The two are {strong} related (Spearman's rho {found.rho:.2f}): {way} are neighbours."
    rows = list(zip(plane.row.tolist(), plane.col.tolist(), entropy.tolist(), alike.tolist(), strict=True))
    return Chart("entropy", figure, said, ("row", "column", "local_entropy", "local_similarity"), rows)


def redundancy_masks(plane: Plane) -> Chart:
    """Figure 9."""
    masks = detail.redundancy_masks(plane)
    shares = masks.mean(1)
    figure = panels([f"tau {tau:g}: {100 * share:.0f} %" for tau, share in zip(detail.TAUS, shares, strict=True)], 5)
    for number, mask in enumerate(masks):
        figure.add_trace(heat(plane, mask.astype(float), [[0, "rgba(128,139,153,.15)"], [1, TEAL]]), **place(number, 5))
    grid_axes(figure, plane)
    half = next((tau for tau, share in zip(detail.TAUS, shares, strict=True) if share < 0.5), None)
    said = (
        f"At tau 0.5, {100 * shares[4]:.0f} % of the tokens are on average that similar to their eight neighbours; "
        + (f"from tau {half:g} on it is fewer than half." if half else "it stays more than half up to tau 0.9.")
    )
    columns = ("row", "column", *(f"tau_{tau:g}" for tau in detail.TAUS))
    rows = [(int(r), int(c), *map(int, m)) for r, c, m in zip(plane.row, plane.col, masks.T, strict=True)]
    return Chart("masks", figure, said, columns, rows)


def preference_maps(plane: Plane, maps: Sequence[Preference], budget: int) -> Chart:
    """Figure 5."""
    figure = panels([m.title if not m.missing else f"{m.title}: not with this model" for m in maps])
    for number, one in enumerate(maps):
        figure.add_trace(heat(plane, one.preference[plane.index]), 1, number + 1)
        figure.add_trace(dots(plane, inside(plane, one.kept), showlegend=False, size=4), 1, number + 1)
    grid_axes(figure, plane)
    dpp = maps[-1]
    shared = {m.title: overlap(m.kept, dpp.kept) for m in maps[:-1] if not m.missing}
    said = (
        f"Of the {budget} tokens that the DPP keeps (dots), the others share, as intersection over union: "
        + ", ".join(f"{title.lower()} {value:.2f}" for title, value in shared.items())
    )
    rows = [
        (int(plane.row[at]), int(plane.col[at]), *(float(m.preference[token]) for m in maps))
        for at, token in enumerate(plane.index)
    ]
    return Chart("preferences", figure, said + ".", ("row", "column", *(m.title.lower() for m in maps)), rows)


def determinants(plane: Plane, kept: np.ndarray, title: str) -> Chart:
    """Figure 6. kept: the selection, as places in the plane."""
    size = max(2, len(kept))
    points = bounds.draw(plane.vectors, size, SUBSETS)
    ours = bounds.point(plane.vectors[kept], title) if len(kept) >= 2 else None
    small = [p for k in (2, 4, 8) if k <= len(plane) for p in bounds.draw(plane.vectors, k, SUBSETS // 2)]
    found = bounds.checks([*points, *small])
    figure = go.Figure()
    for name, colour in (("random", BLUE), ("around a token", PINK)):
        some = [p for p in points if p.name == name and np.isfinite(p.log_det)]
        marker = {"color": colour, "size": 6, "opacity": 0.7}
        x, y = [p.average for p in some], [p.log_det / size for p in some]
        figure.add_trace(go.Scatter(x=x, y=y, mode="markers", name=f"subsets: {name}", marker=marker))
    averages = np.linspace(min(p.average for p in points), max(p.average for p in points), 60)
    figure.add_trace(
        go.Scatter(
            x=averages,
            y=bounds.average_bound(averages, size) / size,
            name="bound from the average",
            line={"color": ORANGE},
        )
    )
    said = ""
    if ours is not None and np.isfinite(ours.log_det):
        marker = {"symbol": "star", "size": 15, "color": TEAL, "line": {"width": 1, "color": "#000000"}}
        figure.add_trace(
            go.Scatter(x=[ours.average], y=[ours.log_det / size], mode="markers", name=title, marker=marker)
        )
        above = np.mean([ours.log_det > p.log_det for p in points if p.name == "random"])
        said = f"{title}'s {size} tokens have a larger determinant than {100 * above:.0f} % of random subsets. "
    figure.update_layout(xaxis_title="average similarity", yaxis_title="log det / size")
    held = sum(check.theorem and not check.failed for check in found)
    tempting = {check.claim: check for check in found if not check.theorem}
    lower, order = tempting.values()
    reversed_pairs = 100 * order.failed / max(order.checked, 1)
    said += (
        f"On {found[0].checked} subsets, {held} of 4 proven bounds held throughout; the average's formula as a "
        f"lower bound failed on {lower.failed}; a lower average had a smaller determinant in {reversed_pairs:.0f} % "
        "of pairs. (These are the standard bounds; the appendix's own text was not at hand.)"
    )
    rows: list[tuple[object, ...]] = [
        (
            p.name,
            p.size,
            p.average,
            p.log_det,
            float(bounds.average_bound(p.average, p.size)),
            bounds.pair_bound(p.closest),
        )
        for p in [*points, *small, *([ours] if ours else [])]
    ]
    rows += [
        (check.claim, "", "theorem" if check.theorem else "not a theorem", check.checked, check.failed, "")
        for check in found
    ]
    columns = ("subset_or_claim", "size", "average_similarity", "log_det", "average_bound", "closest_pair_bound")
    return Chart("determinants", figure, said, columns, rows)


def estimates(tables: Sequence[Sequence[estimation.Estimate]], k: int) -> Chart:
    """Table 1, the mean over one or more pictures."""
    names = [e.name for e in tables[0]]

    def mean(field: str) -> list[float]:
        return [float(np.mean([getattr(table[at], field) for table in tables])) for at in range(len(names))]

    share, spent, iou, faster = mean("share"), mean("ms"), mean("iou"), mean("speedup")
    cells = [
        names, [f"{100 * s:.0f} %" for s in share], [f"{t:.2f} ms" for t in spent], [f"{v:.2f}" for v in iou],
        [f"{f:.1f} x" for f in faster],
    ]  # fmt: skip
    heads = ("", "pairs compared", "time", f"IoU@{k}", "speed-up")
    figure = go.Figure(
        go.Table(
            columnwidth=[1.3, 1, 1, 1, 1],
            header={
                "values": [f"<b>{h}</b>" for h in heads],
                "fill_color": "rgba(128,139,153,.18)",
                "align": "left",
                "height": 28,
            },
            cells={"values": cells, "fill_color": "rgba(0,0,0,0)", "align": "left", "height": 28},
        )
    )
    pictures = "this picture" if len(tables) == 1 else f"{len(tables)} pictures"
    said = (
        f"On {pictures}, the bipartite graph finds {100 * iou[1]:.0f} % (IoU) of the {k} most redundant tokens from "
        f"{100 * share[1]:.0f} % of the pairs, {faster[1]:.1f} times as fast; as many random pairs find "
        f"{100 * iou[2]:.0f} %, {faster[2]:.1f} times as fast."
    )
    rows = [
        (picture, e.name, e.pairs, e.share, e.ms, e.iou, e.speedup)
        for picture, table in enumerate(tables)
        for e in table
    ]
    return Chart("redundancy", figure, said, ("picture", "way", "pairs", "share", "ms", f"iou_at_{k}", "speedup"), rows)
