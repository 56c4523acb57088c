"""The files of a report: what they are called, what they say, and that they appear together."""

import ast
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from neurosam3d.evaluation.groups import Groups
from neurosam3d.evaluation.report import results_table, write_results
from neurosam3d.evaluation.report_text import explanations, headline, is_bound, meaning
from neurosam3d.evaluation.result_files import CSV_COLUMNS, read_results
from neurosam3d.evaluation.results import CaseResult, RoundResult
from neurosam3d.evaluation.summary import summarise
from neurosam3d.evaluation.summary_tables import split_table, worst_cases
from tests.evaluation.made_up import PROTOCOL, case, many_cases

CLASSES = ["liver", "left kidney", "nodule"]
ODD = '<script>alert("1")</script> & co|_*'


class Page(HTMLParser):
    """What a browser would make of a page: its tags, what they load, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "wbr", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def write_png(path: Path) -> Path:
    figure = Figure(figsize=(1, 1))
    figure.subplots().imshow(np.eye(3))
    figure.savefig(path, format="png")
    return path


def read_page(folder: Path, cases: list[CaseResult], **more: object) -> Page:
    write_results(folder / "r", cases, protocol={**PROTOCOL, **more})
    return Page((folder / "r.html").read_text(encoding="utf-8"))


def test_files_hold_every_round(tmp_path: Path) -> None:
    cases = many_cases(CLASSES, 3)
    paths = write_results(tmp_path / "new" / "run_1.5mm", cases, protocol=PROTOCOL)
    assert [path.name for path in paths] == [
        f"run_1.5mm{suffix}" for suffix in (".json", ".csv", ".md", ".html")
    ]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(p.name for p in paths)
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    assert content["protocol"] == PROTOCOL
    assert content["summary"]["by_clicks"]["2"]["cases"] == 9
    assert set(content["summary"]) == {
        "by_clicks",
        "by_class",
        "by_dataset",
        "by_group",
        "ungrouped",
        "legacy",
    }
    assert content["cases"][0]["group"] == "abdomen and thorax"
    header, *lines = csv.reader(paths[1].read_text(encoding="utf-8").splitlines())
    assert (tuple(header), len(lines)) == (CSV_COLUMNS, 27)
    assert [c.rounds for c in read_results(paths[0]).cases] == [c.rounds for c in cases]


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".html"])
def test_a_suffix_is_no_part_of_the_name(tmp_path: Path, suffix: str) -> None:
    paths = write_results(tmp_path / f"run{suffix}", many_cases(CLASSES, 2), protocol={})
    assert {path.stem for path in paths} == {"run"}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_classic_file_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    *_, classic = write_results(tmp_path / "union_out_dice.py", many_cases(CLASSES), protocol={})
    assert classic.name == "union_out_dice.py"
    text = classic.read_text(encoding="utf-8")
    assert "legacy: best over clicks" in text.splitlines()[0]
    assert len(ast.literal_eval(text.partition("dice_Ts = ")[2])) == 24


def test_no_file_is_written_if_one_cannot_be(tmp_path: Path) -> None:
    cases = many_cases(CLASSES)
    with pytest.raises(TypeError):
        write_results(tmp_path / "run", cases, protocol={"what": object()})
    with pytest.raises(ValueError, match=r"cannot read the picture .*none\.png: No such file"):
        write_results(tmp_path / "run", cases, protocol={}, pictures=[tmp_path / "none.png"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(ValueError, match=r"must be a PNG file, got .*text\.png"):
        write_results(tmp_path / "run", cases, protocol={}, pictures=[tmp_path / "text.png"])


def test_the_page_needs_nothing_else_and_is_well_formed(tmp_path: Path) -> None:
    picture = write_png(tmp_path / "a<b>.png")
    cases = many_cases(CLASSES)
    write_results(tmp_path / "r", cases, protocol=PROTOCOL, pictures=[picture])
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.loaded)
    assert sum(address.startswith("data:") for address in page.loaded) == 1
    assert page.tags.count("svg") == 3  # clicks, groups, classes
    style = page.texts[page.texts.index("r") + 1 :]
    assert not any(re.search(r"url\(|@import", text) for text in style)
    assert any("prefers-color-scheme: dark" in text for text in page.texts)


def test_every_name_is_escaped(tmp_path: Path) -> None:
    cases = [case("s", ODD, RoundResult(1, 0.5), dataset=ODD, group=ODD)]
    page = read_page(tmp_path, cases, checkpoint=ODD, left_out=[{"case": ODD, "reason": ODD}])
    assert "script" not in page.tags
    assert page.open == []
    assert ODD.rpartition("_")[0] in "".join(page.texts)
    markdown = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown
    assert r"&lt;script&gt;alert(" in markdown
    assert r"& co" not in markdown


def test_an_upper_bound_is_called_so_first_of_all(tmp_path: Path) -> None:
    page = read_page(tmp_path, many_cases(CLASSES), name="oracle_roi")
    words = [text for text in page.texts if text.strip()]
    assert any("An upper bound" in text for text in words[3:5])  # after title, heading and lead
    assert words.index("Protocol") < words.index("Results")
    markdown = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert markdown.splitlines()[4].startswith("> An upper bound: the region of interest was")


@pytest.mark.parametrize(
    ("name", "says", "bound"),
    [
        ("oracle_roi", "An upper bound", True),
        ("prompt_roi", "What a user gets", False),
        ("cvpr25", "The protocol of the CVPR 2025 challenge", False),
        ("mine", "does not tell how the region of interest was chosen", True),
    ],
)
def test_protocols_are_explained(name: str, says: str, bound: bool) -> None:
    assert says in meaning({"name": name})
    assert is_bound({"name": name}) is bound


def test_a_report_says_what_its_means_hide() -> None:
    cases = [
        case("a", "liver", RoundResult(1, 0.0, 0.0, prediction_empty=True)),
        case("b", "liver", RoundResult(1, 1.0, prediction_empty=True), truth_empty=True),
    ]
    said = " ".join(explanations({"legacy": "nsd of SAM-Med3D"}, summarise(cases), cases))
    assert "1 of 2 references and 2 predictions are empty, and 1 are misses" in said
    assert "From 2 scans they come out too narrow" in said
    assert "older conventions: nsd of SAM-Med3D." in said
    assert "the best Dice over the clicks has the mean 0.500" in said
    parts = explanations({"missing_parts": [0, 2]}, summarise(cases), cases)
    assert "Parts of the evaluation are missing, counted from 0: 0, 2." in parts


def test_the_headline_names_mean_interval_and_numbers() -> None:
    cases = many_cases(CLASSES, 4)
    text = headline(summarise(cases), cases)
    assert re.fullmatch(
        r"Mean Dice after 3 clicks: 0\.\d{3} \(95% interval 0\.\d{3} to \d\.\d{3}\), "
        r"over 12 objects of 4 scans\.",
        text,
    )
    assert headline(summarise([]), []) == "No object was evaluated."


def test_one_case_and_no_case_are_reports_too(tmp_path: Path) -> None:
    page = read_page(tmp_path, [case("s", "liver", RoundResult(1, 0.5))])
    assert page.open == []
    assert "One scan is too few for an interval." in " ".join(page.texts)
    empty = read_page(tmp_path, [])
    assert "No object was evaluated." in empty.texts
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["cases"] == []
    assert results_table([]).row_count == 1


def test_many_classes_are_all_there(tmp_path: Path) -> None:
    names = [f"class {n:03d}" for n in range(120)]
    page = read_page(tmp_path, many_cases(names, 2))
    assert set(names) <= set(page.texts)
    assert any("class 011 and 108 more." in text for text in page.texts)  # those without a group


def test_scores_of_the_challenge_are_in_its_reports(tmp_path: Path) -> None:
    cases = many_cases(CLASSES, clicks=5)
    page = read_page(tmp_path, cases, name="cvpr25")
    assert "Dice AUC" in page.texts
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert content["summary"]["cvpr25"]["scans"] == 8
    assert 0 < content["summary"]["cvpr25"]["dice_auc"] <= 4


def test_pictures_are_linked_from_markdown(tmp_path: Path) -> None:
    picture = write_png(tmp_path / "worst_1.png")
    write_results(tmp_path / "out" / "r", many_cases(CLASSES), protocol={}, pictures=[picture])
    markdown = (tmp_path / "out" / "r.md").read_text(encoding="utf-8")
    assert r"![worst\_1](<../worst_1.png>)" in markdown


def test_groups_may_be_the_users_own(tmp_path: Path) -> None:
    groups = Groups(({"liver": "mine"},), frozenset())
    write_results(tmp_path / "r", many_cases(CLASSES), protocol={}, groups=groups)
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert set(content["summary"]["by_group"]) == {"mine", "other"}
    assert content["summary"]["ungrouped"] == ["left kidney", "nodule"]


def test_the_worst_objects_are_those_that_ended_worst() -> None:
    cases = [
        case("a", "liver", RoundResult(1, 0.9), RoundResult(2, 0.3)),
        case("b", "liver", RoundResult(1, 0.1), RoundResult(2, 0.8)),
        case("b", "liver", RoundResult(1, 0.1), RoundResult(2, 0.2), repeat=1),
        case("c", "liver"),
    ]
    assert [(c.case, c.repeat) for c in worst_cases(cases)] == [("b", 1), ("a", 0)]
    assert [c.case for c in worst_cases(cases, 1)] == ["b"]


def test_table_shows_classes_clicks_and_all_together() -> None:
    rounds = (RoundResult(1, 0.5), RoundResult(2, 0.75, None, 4.0))
    short = case("b", "stomach", RoundResult(1, 0.6))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(results_table([case("a", "liver", *rounds), short]))
    lines = [line.split() for line in capture.get().splitlines()]
    assert ["liver", "1", "0.500", "0.750", "-", "4.00", "0"] in lines
    assert ["stomach", "1", "0.600"] in lines
    assert ["all", "2", "0.550", "0.750", "-", "4.00", "0"] in lines
    assert max(map(len, capture.get().splitlines())) <= 80


def test_long_sessions_are_shown_at_selected_clicks() -> None:
    cases = [case("a", "liver", *(RoundResult(n, n / 10) for n in range(1, 11)))]
    summary = summarise(cases)
    table = split_table("T", "class", summary["by_class"], summary["by_clicks"])
    assert list(table.columns)[2:6] == ["1 click", "3 clicks", "5 clicks", "10 clicks"]
    brief = split_table("T", "class", summary["by_class"], summary["by_clicks"], is_brief=True)
    assert list(brief.columns)[2:5] == ["1 click", "3 clicks", "10 clicks"]
