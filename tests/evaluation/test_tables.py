"""Tables in the terminal, in Markdown and in HTML, with texts that hold every kind of mark."""

from rich.console import Console

from neurosam3d.evaluation.tables import (
    Table,
    markdown_text,
    show_clicks,
    show_count,
    show_mean,
    show_names,
    show_number,
    show_value,
)

TABLE = Table(
    "Odd <names>",
    ("class", "Dice"),
    [("<b>a|b</b>", "0.500"), ("[red]liver_left", "0.250"), ("all", "0.375")],
    has_total=True,
    note="5 * 3 & more",
)


def shown(table: Table, width: int) -> list[list[str]]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table.terminal())
    return [line.split() for line in capture.get().splitlines()]


def test_markdown_keeps_its_columns_and_marks() -> None:
    assert TABLE.markdown() == (
        "### Odd &lt;names&gt;\n\n"
        "| class | Dice |\n"
        "| :--- | ---: |\n"
        "| &lt;b&gt;a\\|b&lt;/b&gt; | 0.500 |\n"
        "| \\[red\\]liver\\_left | 0.250 |\n"
        "| **all** | **0.375** |\n"
        "\n5 \\* 3 &amp; more\n"
    )


def test_html_is_escaped_and_names_may_break() -> None:
    text = TABLE.html()
    assert "<td>&lt;b&gt;a|b&lt;/b&gt;</td><td class=number>0.500</td>" in text
    assert "liver_<wbr>left" in text
    assert "<tr class=total><td>all</td>" in text
    assert "<figcaption>5 * 3 &amp; more</figcaption>" in text
    assert "<h3>Odd &lt;names&gt;</h3>" in text
    assert "<h3>" not in TABLE.html(with_title=False)


def test_terminal_takes_brackets_for_what_they_are() -> None:
    lines = shown(TABLE, 80)
    assert ["Odd", "<names>"] in lines
    assert ["[red]liver_left", "0.250"] in lines


def test_numbers_stay_whole_where_the_terminal_is_narrow() -> None:
    name = "a_very_long_name_of_a_class"
    table = Table("T", ("class", "Dice", "NSD"), [(name, "0.123456789", "0.5")])
    lines = shown(table, 30)
    assert any(line[1:] == ["0.123456789", "0.5"] for line in lines)
    start = next(place for place, line in enumerate(lines) if line[1:] == ["0.123456789", "0.5"])
    assert "".join(line[0] for line in lines[start:] if line) == name


def test_values_in_words() -> None:
    assert show_number(None) == "-"
    assert show_number(float("inf"), 2) == "inf"
    assert show_number(0.12345) == "0.123"
    assert show_mean(0.5, (0.25, 0.75)) == "0.500 (0.250 to 0.750)"
    assert show_mean(0.5, None) == "0.500"
    assert [show_clicks(n) for n in (-1, 0, 1, 2)] == [
        "best over clicks",
        "no click",
        "1 click",
        "2 clicks",
    ]
    assert (show_count(1, "scan"), show_count(2000, "scan")) == ("1 scan", "2,000 scans")
    assert show_names(list("abc")) == "a, b, c"
    assert show_names(list("abc"), most=2) == "a, b and 1 more"
    assert show_value([1.5, None, [True, False]]) == "1.5, none, yes, no"
    assert show_value([]) == "none"
    assert markdown_text("a\n*b*") == "a \\*b\\*"
