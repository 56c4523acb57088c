"""Classic result files, `dice_Ts = {path: dice}`, which hold the best Dice over the clicks."""

import ast
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from neurosam3d.evaluation.results import BEST_OVER_CLICKS, CaseResult, Results, RoundResult
from neurosam3d.evaluation.tables import show_count

logger = logging.getLogger(__name__)

_FOLDER = re.compile(r"(?:images|labels)(Tr|Val|Ts)?(?:_.*)?")
_NAME = re.compile(r"dice_\w+")


def to_classic(cases: Sequence[CaseResult]) -> str:
    """Return the text of a classic file: the mean as a comment, then the dictionary.

    Its Dice is the best over the clicks, as its readers expect, and of an object's repeats the
    mean of that.

    Args:
        cases: The results; without the path of a label a case is named as a prepared tree would.
    """
    best: dict[str, list[float]] = {}
    for case in cases:
        if case.rounds:
            path = case.label or _tree_path(case)
            best.setdefault(path, []).append(max(entry.dice for entry in case.rounds))
    means = {path: math.fsum(values) / len(values) for path, values in best.items()}
    mean = math.fsum(means.values()) / len(means) if means else math.nan
    lines = [f"# mean Dice {mean:.6f} of {len(means)} objects (legacy: best over clicks)"]
    lines += ["dice_Ts = {", *(f"    {path!r}: {dice!r}," for path, dice in means.items()), "}"]
    return "\n".join(lines) + "\n"


def read_classic(text: str) -> Results:
    """Read the text of a classic file; it is parsed, never run.

    Paths of a prepared tree, `<NAME>/labels<SET>/<CLASS>/<case>`, tell data set, set and class. Of
    any other path the fourth part from the end is the class and the third the data set, as in
    `<class>/<dataset>/images<SET>/<case>`.

    Raises:
        ValueError: If it is no Python, has no such dictionary, or holds anything but paths and
            Dice.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is no classic file, {error}") from error
    for statement in statements:
        if isinstance(statement, ast.Assign) and _names_dice(statement.targets):
            value = _PlainNumbers().visit(statement.value)
            try:
                return _to_results(ast.literal_eval(value))
            except (ValueError, TypeError, RecursionError, MemoryError) as error:
                raise ValueError(f"dice_Ts must map paths to numbers in 0..1: {error}") from error
    raise ValueError("it has no dictionary dice_Ts")


def read_classic_json(content: Mapping[str, Any]) -> Results:
    """Read the JSON of older tools: `{group: {image path: {"0": dice, "1": ...}}}`.

    Raises:
        ValueError: If the content is not of that form.
    """
    cases = []
    for group in content.values():
        if not isinstance(group, Mapping) or not group:
            raise ValueError("it has no 'cases'")
        for path, rounds in group.items():
            if not isinstance(rounds, Mapping) or not all(map(str.isdecimal, rounds)):
                raise ValueError("it has no 'cases'")
            cases.append(_to_case(path, _known_rounds(path, rounds)))
    if not cases:
        raise ValueError("it has no 'cases'")
    return Results({}, cases)


def _known_rounds(path: str, rounds: Mapping[str, Any]) -> list[RoundResult]:
    """Return the rounds that have a Dice: of two empty masks older tools wrote nan."""
    known = {n: dice for n, dice in rounds.items() if not (dice is None or dice != dice)}
    if not all(map(_is_dice, known.values())):
        raise ValueError(f"the Dice of {path} must be in 0..1, got {dict(rounds)}")
    return [RoundResult(int(n) + 1, float(known[n])) for n in sorted(known, key=int)]


class _PlainNumbers(ast.NodeTransformer):
    """Turns what numpy writes for a number, `np.float64(0.5)` or `nan`, into a plain value."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Replace `np.float64(0.5)` by `0.5`."""
        is_float = ast.unparse(node.func).rpartition(".")[2].startswith("float")
        return self.visit(node.args[0]) if is_float and len(node.args) == 1 else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Replace `nan` by `None`."""
        return ast.Constant(None) if node.id == "nan" else node


def _names_dice(targets: Sequence[ast.expr]) -> bool:
    return any(isinstance(name, ast.Name) and _NAME.fullmatch(name.id) for name in targets)


def _to_results(dice: Any) -> Results:
    if not isinstance(dice, dict):
        raise ValueError(f"got {type(dice).__name__}")
    known = {path: value for path, value in dice.items() if value is not None}
    for path, value in known.items():
        if not isinstance(path, str) or not _is_dice(value):
            raise ValueError(f"got {path!r}: {value!r}")
    if len(known) < len(dice):
        number = show_count(len(dice) - len(known), "object")
        logger.warning(
            "left out: %s whose Dice is nan, as older tools call two empty masks", number
        )
    cases = [
        _to_case(path, [RoundResult(BEST_OVER_CLICKS, float(value))])
        for path, value in known.items()
    ]
    return Results({}, cases)


def _is_dice(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _to_case(path: str, rounds: Sequence[RoundResult]) -> CaseResult:
    """Name a case by a path, in which older tools write both kinds of slashes."""
    parts = ("", "", "", *PurePosixPath(path.replace("\\", "/")).parts)
    fourth, third, second, file = parts[-4:]
    case = file.removesuffix(".gz").removesuffix(".nii")
    match = _FOLDER.fullmatch(third)
    if match and third.startswith("labels"):
        return CaseResult(fourth, match[1] or "", second, case, "", path, tuple(rounds))
    match = _FOLDER.fullmatch(second)
    set_name = (match[1] or "") if match else ""
    return CaseResult(third, set_name, fourth, case, "", path, tuple(rounds))


def _tree_path(case: CaseResult) -> str:
    return f"{case.dataset}/labels{case.set_name}/{case.class_name}/{case.case}.nii.gz"
