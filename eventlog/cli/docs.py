"""`eventlog docs`: the pages of the documentation, which are installed with the package."""

from __future__ import annotations

from pathlib import Path

import click

from eventlog.cli.main import pages, tell
from eventlog.errors import BrokenInstallation, QueryFailed
from eventlog.installation import FOLDER, repair

_PAGES = FOLDER / "docs"


@click.command()
@click.argument("page", metavar="[PAGE]", required=False)
def docs(page: str | None) -> None:
    """Show a page of the documentation.

    Without PAGE, list them. Pages are Markdown.

    \b
    Example:
      eventlog docs
      eventlog docs cost
    """
    found = {path.stem.lower(): path for path in sorted(_PAGES.glob("*.md"))}
    if not found:
        raise BrokenInstallation(f"{_PAGES} is missing; try: {repair()}")
    if page is None:
        longest = max(map(len, found))
        tell("\n".join(f"{name:{longest}}  {_title(path)}" for name, path in found.items()))
        return
    path = found.get(page.lower().removeprefix("docs/").removesuffix(".md"))
    if path is None:
        raise QueryFailed(f"there is no page {page!r}; there are: {', '.join(found)}")
    text = path.read_text(encoding="utf-8").rstrip("\n")
    if pages():
        click.echo_via_pager(text + "\n")
    else:
        tell(text)


def _title(path: Path) -> str:
    """Return the first heading of a page."""
    with path.open(encoding="utf-8") as lines:
        return next((line.lstrip("#").strip() for line in lines if line.startswith("#")), "")
