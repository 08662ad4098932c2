"""`broker map test`: the examples beside mappings, run; or their expectations written anew."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.mappings import bundle_of, configured, existing
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.mapping.trials.examples import Difference, Result

BOM = b"\xef\xbb\xbf"


def register(verbs: typer.Typer) -> None:
    """Add `test` to the group."""
    verbs.command("test")(run_examples)


def run_examples(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Mapping files or folders; default: those of the configuration."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Let failing examples expect what comes out now.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write a report in JUnit's XML.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Run the examples beside mappings; 1 when one does not come out as it says."""
    existing(paths or [], "PATHS")
    meant = paths or [configured(load_settings(config))]
    results = _run(meant)
    written = _updated(results) if update else []
    if written:
        results, former = _run(meant), results
        written += [f"{printable(line)}\n" for line in _lost(former)]
    if junit:
        _write_report(junit, results)
    if as_json:
        print_json({"examples": [_plain(each) for each in results], "updated": "".join(written)})
    else:
        typer.echo("".join(written), nl=False)
        for line in _lines(results):
            typer.echo(line)
    if not all(each.passed for each in results):
        raise typer.Exit(NEGATIVE)


def _run(paths: list[Path]) -> list[Result]:
    from broker.mapping.trials.examples import results

    return list(results(bundle_of(paths)))


def _updated(found: Sequence[Result]) -> list[str]:
    """Rewrite what failed, file by file; gives the lines of the differences that were written."""
    files: dict[str, list[Result]] = {}
    for each in found:
        if not each.passed:
            files.setdefault(each.node.source.name, []).append(each)
    return [line for name, failed in files.items() for line in _update(Path(name), failed)]


def _update(path: Path, failed: list[Result]) -> Iterator[str]:
    from broker.mapping.trials.updating import updated

    data = path.read_bytes()
    start = BOM if data.startswith(BOM) else b""
    before = data.removeprefix(BOM).decode("utf-8")
    after = updated(before, failed)
    if after == before:
        return
    _replace(path, start + after.encode("utf-8"))
    old, new = before.splitlines(), after.splitlines()
    for line in difflib.unified_diff(old, new, f"{path} before", f"{path}", lineterm=""):
        yield f"{printable(line)}\n"


def _lost(former: Sequence[Result]) -> Iterator[str]:
    """What examples expected and no message says any more: easily overlooked in a difference."""
    from broker.mapping.trials.examples import lost

    for each in former:
        for what in lost(each):
            yield f"gone: {what} comes out no more  {each.mapping}: {each.title}"


def _replace(path: Path, data: bytes) -> None:
    """All of the new content or the old: whoever reloads mappings must not see a part."""
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.write_bytes(data)
        shutil.copymode(target, fresh)
        fresh.replace(target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--update") from error


def _lines(results: Sequence[Result]) -> Iterator[str]:
    for each in results:
        name = f"{each.mapping}: {each.title}"
        yield printable(f"{'pass' if each.passed else 'FAIL'}  {name}  ({each.node.place})")
        for difference in each.differences:
            yield printable(f"      {_difference(difference)}  {difference.node.place}")
    failed = sum(not each.passed for each in results)
    yield f"{len(results)} examples, {failed} failed" if results else "no examples"


def _difference(difference: Difference) -> str:
    if not difference.mendable:
        return difference.complaint.fact
    found, expected = _shown(difference.found), _shown(difference.expected)
    return f"{difference.what}: {found}, expected {expected}"


def _shown(value: Any) -> str:
    from broker.mapping.trials.examples import as_text

    return f"'{as_text(value)}'" if value not in (None, "") else "nothing"


def _plain(result: Result) -> dict[str, Any]:
    return {
        "mapping": result.mapping,
        "example": result.title,
        "place": result.node.place,
        "passed": result.passed,
        "differences": [
            {
                "what": each.what,
                "found": each.found,
                "expected": each.expected,
                "place": each.node.place,
                "fact": each.complaint.fact,
            }
            for each in result.differences
        ],
    }


def _write_report(path: Path, results: Sequence[Result]) -> None:
    """JUnit's XML: one test case an example."""
    from xml.etree import ElementTree

    failed = sum(not each.passed for each in results)
    numbers = {"tests": str(len(results)), "failures": str(failed), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": "broker map test", **numbers})
    for each in results:
        about = {"classname": each.mapping, "name": each.title, "file": each.node.source.name}
        case = ElementTree.SubElement(suite, "testcase", {**about, "line": str(each.node.line)})
        if not each.passed:
            facts = [_xml(f"{d.node.place}: {_difference(d)}") for d in each.differences]
            failure = ElementTree.SubElement(case, "failure", {"message": facts[0]})
            failure.text = "\n".join(facts)
    tree = ElementTree.ElementTree(suite)
    try:
        tree.write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--junit") from error


def _xml(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return printable(text)
