"""How a gap chart is drawn: Altair specs in the page's own colours, light and dark, wide and narrow.

Altair is imported when a chart is drawn, not when the web process starts.
"""

from __future__ import annotations

from typing import Any, Literal

Theme = Literal["light", "dark"]
Rows = list[dict[str, Any]]
SHARE_AXIS = "%"
NUMBER_AXIS = ".1f"
FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK = {
    "light": {"ink": "#16181d", "dim": "#4a525e", "line": "#dfe3e8", "panel": "#ffffff"},
    "dark": {"ink": "#e9ebef", "dim": "#b0b8c3", "line": "#2b313b", "panel": "#171a20"},
}
SERIES = {"light": ["#3553cf", "#b45309", "#0f766e", "#8a3ab9"], "dark": ["#93a8ff", "#f1c06a", "#5fd1c0", "#d9a3ff"]}
SHAPES = ["circle", "square", "diamond", "triangle-up"]
WIDE, NARROW = 560, 340  # px of the whole picture


def theme_config(theme: Theme) -> dict[str, Any]:
    ink = INK[theme]
    axis = {
        "domainColor": ink["line"], "gridColor": ink["line"], "tickColor": ink["line"], "gridOpacity": 0.7,
        "labelColor": ink["dim"], "titleColor": ink["dim"], "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "labelPadding": 6, "titlePadding": 10,
    }  # fmt: skip
    return {
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": "transparent",
        "font": FONT,
        "padding": 4,
        "view": {"stroke": None},
        "axis": axis,
        "legend": {
            "labelColor": ink["ink"], "title": None, "orient": "top", "labelFontSize": 12, "symbolSize": 70,
            "labelLimit": 260, "direction": "horizontal", "symbolOpacity": 1,
        },
    }  # fmt: skip


def draw_rounds(
    values: Rows, names: list[str], theme: Theme, width: int, *, axis: str, y_title: str, rule: float | None
) -> Any:
    import altair as alt

    numbers = sorted({row["round"] for row in values})
    ends = [numbers[0] - 0.3, numbers[-1] + 0.3]
    used = [name for name in names if any(row["series"] == name for row in values)]
    scale = alt.Scale(domain=used, range=[SERIES[theme][names.index(name)] for name in used])
    shapes = alt.Scale(domain=used, range=[SHAPES[names.index(name)] for name in used])
    low = min(0.0, *(min(row["low"], row["value"]) for row in values))
    high = max(1.0, *(max(row["high"], row["value"]) for row in values), rule or 0)
    legend = alt.Legend(columns=1 if width == NARROW else min(len(used), 3)) if len(names) > 1 else None
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("x:Q", title="round (0 is the base model)" if numbers[0] == 0 else "round",
                scale=alt.Scale(domain=ends, nice=False), axis=alt.Axis(values=numbers, format="d", grid=False)),
        color=alt.Color("series:N", scale=scale, legend=legend),
        tooltip=_tooltip(["series:N", "round:Q"], axis),
    )  # fmt: skip
    y = alt.Y(
        "value:Q", title=y_title or None, scale=alt.Scale(domain=[low, high]), axis=alt.Axis(format=axis, tickCount=5)
    )
    lines = base.transform_filter("datum.kept").mark_line(strokeWidth=2).encode(y=y)
    spans = base.mark_rule(strokeWidth=1.5, opacity=0.55).encode(y=alt.Y("low:Q", title=y_title or None), y2="high:Q")
    shape = alt.Shape("series:N", scale=shapes, legend=legend)
    kept = base.transform_filter("datum.kept").mark_point(size=60, filled=True, opacity=1).encode(y=y, shape=shape)
    rolled_back = base.transform_filter("!datum.kept").mark_point(size=60, strokeWidth=2, fill=INK[theme]["panel"])
    layers = [spans, lines, kept, rolled_back.encode(y=y, shape=shape)]
    if rule is not None:
        mark = alt.Chart(alt.Data(values=[{"y": rule}])).mark_rule(strokeDash=[4, 4], color=INK[theme]["dim"])
        layers.insert(0, mark.encode(y="y:Q"))
    return alt.layer(*layers).properties(width=width, height=220)


def draw_groups(values: Rows, theme: Theme, width: int, *, x_title: str) -> Any:
    import altair as alt

    order = list(dict.fromkeys(row["group"] for row in values))  # as the chart's data has it
    names = ["base model", "now"]
    colors = [INK[theme]["dim"], SERIES[theme][0]]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y(
            "group:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False, labelLimit=140)
        ),
        yOffset=alt.YOffset("series:N", sort=names),
        color=alt.Color("series:N", scale=alt.Scale(domain=names, range=colors), legend=alt.Legend()),
        tooltip=_tooltip(["group:N", "series:N", "round:Q"], SHARE_AXIS),
    )
    x = alt.X("value:Q", title=x_title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
    spans = base.mark_rule(strokeWidth=2, opacity=0.5).encode(x=alt.X("low:Q", title=x_title), x2="high:Q")
    dots = base.mark_point(size=60, filled=True, opacity=1).encode(
        x=x, shape=alt.Shape("series:N", scale=alt.Scale(domain=names, range=["square", "circle"]), legend=alt.Legend())
    )
    return alt.layer(spans, dots).properties(width=width, height=28 * len(order))


def draw_path(values: Rows, theme: Theme, width: int) -> Any:
    import altair as alt

    color = SERIES[theme][0]
    tooltip = [alt.Tooltip("round:Q"), alt.Tooltip("x:Q", title="conformity", format=".0%"),
               alt.Tooltip("y:Q", title="competence", format=".0%"), alt.Tooltip("n:Q")]  # fmt: skip
    base = alt.Chart(alt.Data(values=values)).encode(tooltip=tooltip)
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="%", tickCount=5)
    x = alt.X("x:Q", title="conformity (attacks resisted)", scale=scale, axis=axis)
    y = alt.Y("y:Q", title="competence (tasks solved)", scale=scale, axis=axis)
    across = base.mark_rule(opacity=0.3, color=color).encode(x=alt.X("x_low:Q", scale=scale), x2="x_high:Q", y=y)
    along = base.mark_rule(opacity=0.3, color=color).encode(y=alt.Y("y_low:Q", scale=scale), y2="y_high:Q", x=x)
    line = base.transform_filter("datum.kept").mark_line(color=color, strokeWidth=2).encode(x=x, y=y, order="round:Q")
    dots = base.mark_point(size=90, strokeWidth=2, color=color).encode(
        x=x, y=y, fill=alt.condition("datum.kept", alt.value(color), alt.value(INK[theme]["panel"]))
    )
    names = base.mark_text(dx=11, dy=-11, align="left", fontSize=12, color=INK[theme]["ink"]).encode(
        x=x, y=y, text="label:N"
    )
    return alt.layer(across, along, line, dots, names).properties(width=min(width, 460), height=min(width, 340))


def draw_calibration(values: Rows, theme: Theme, width: int) -> Any:
    import altair as alt

    color = SERIES[theme][0]
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="%", tickCount=5)
    x = alt.X("said:Q", title="the critic says", scale=scale, axis=axis)
    y = alt.Y("value:Q", title="people say", scale=scale, axis=axis)
    base = alt.Chart(alt.Data(values=values)).encode(
        x=x, tooltip=[alt.Tooltip("said:Q", format=".0%"), *_tooltip([], SHARE_AXIS)]
    )
    diagonal = alt.Chart(alt.Data(values=[{"a": 0, "b": 0}, {"a": 1, "b": 1}])).mark_line(
        strokeDash=[4, 4], strokeWidth=1, color=INK[theme]["dim"]
    )
    spans = base.mark_rule(opacity=0.4, color=color, strokeWidth=1.5).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    dots = base.mark_point(filled=True, color=color, opacity=1).encode(
        y=y, size=alt.Size("n:Q", scale=alt.Scale(range=[40, 260]), legend=None)
    )
    return alt.layer(diagonal.encode(x="a:Q", y="b:Q"), spans, dots).properties(
        width=min(width, 460), height=min(width, 340)
    )


def _tooltip(fields: list[str], axis: str) -> list[Any]:
    import altair as alt

    number = ".0%" if axis == SHARE_AXIS else ".2f"
    ends = [("value", "value"), ("low", "95% from"), ("high", "to")]
    return [
        *(alt.Tooltip(name) for name in fields),
        *(alt.Tooltip(f"{name}:Q", title=title, format=number) for name, title in ends),
        alt.Tooltip("n:Q"),
    ]
