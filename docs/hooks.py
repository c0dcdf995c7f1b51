"""MkDocs hooks: pages from files outside docs/, an API reference page for every module, and links that work on GitHub.

Documentation links to files of the repository by relative path, which GitHub follows. On the site, a link to a module
leads to its reference page, and a link to any other file outside docs/ leads to a copy of that file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGES = ("filter_study", "study", "trainables", "search_spaces", "analysis")
# Pages of the site whose text lies outside docs/.
OUTSIDE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
# Searches find the guides first.
REFERENCE = "---\nsearch: {{boost: 0.3}}\n---\n\n# {0}\n\n::: {0}\n"
LINK = re.compile(r"\]\((?!\w+:|#|/)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text lies outside docs/, a reference page for every public module, and what pages link to."""
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for file in files.documentation_pages():
        for match in LINK.finditer(file.content_string):
            _add(_target(file.src_uri, match[1]), files, config)
    for package in PACKAGES:
        for module in _modules(ROOT / package):
            files.append(File.generated(config, _reference(module), content=REFERENCE.format(module)))
    config.nav.append({"API reference": [_navigation(package) for package in PACKAGES]})
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files of the repository lead to the corresponding files of the site."""
    here = page.file.src_uri
    if here == "index.md":
        page.meta["hide"] = ["navigation"]  # the tabs have it

    def link(match: re.Match[str]) -> str:
        target = _target(here, match[1])
        if target is None:
            return match[0]  # MkDocs reports it
        return f"]({os.path.relpath(_uri(target), PurePosixPath(here).parent)}{match[2] or ''})"

    return LINK.sub(link, markdown)


def _target(page: str, link: str) -> Path | None:
    """The file or folder of the repository that a page links to, relative to the repository."""
    folder = ROOT / Path(OUTSIDE.get(page, f"docs/{page}")).parent
    target = Path(os.path.normpath(folder / link))
    return target.relative_to(ROOT) if target.exists() and target.is_relative_to(ROOT) else None


def _uri(target: Path) -> str:
    """The path below docs/ at which the site has a file or folder of the repository."""
    for page, source in OUTSIDE.items():
        if target == Path(source):
            return page
    if target.parts[0] in PACKAGES and (target.suffix == ".py" or (ROOT / target / "__init__.py").exists()):
        return _reference(".".join(target.with_suffix("").parts).removesuffix(".__init__"))
    uri = target.relative_to("docs") if target.parts[0] == "docs" else "files" / target
    return (uri / "index.md" if (ROOT / target).is_dir() else uri).as_posix()


def _add(target: Path | None, files: Files, config: MkDocsConfig) -> None:
    """Add what a page links to, unless it is a page or module: a copy of a file, the list of a folder's files."""
    if target is None or (uri := _uri(target)).startswith("reference/") or files.get_file_from_path(uri):
        return
    if (ROOT / target).is_dir():
        names = sorted(child.name for child in (ROOT / target).iterdir() if child.is_file())
        listing = "".join(f"- [{name}]({name})\n" for name in names)
        files.append(File.generated(config, uri, content=f"# {target.as_posix()}\n\n{listing}"))
    else:
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))


def _modules(folder: Path) -> Iterator[str]:
    """The public modules of a package, the package itself first."""
    for path in sorted(folder.rglob("*.py"), key=lambda path: (path.parent, path.name != "__init__.py", path.name)):
        names = path.relative_to(ROOT).with_suffix("").parts
        if names[-1] == "__init__":
            names = names[:-1]
        if not any(name.startswith("_") for name in names):
            yield ".".join(names)


def _reference(module: str) -> str:
    """The path below docs/ of a module's reference page."""
    folder = ROOT.joinpath(*module.split("."))
    return f"reference/{module.replace('.', '/')}" + ("/index.md" if folder.is_dir() else ".md")


def _navigation(module: str) -> dict[str, Any]:
    """A module's entry in the navigation; below a package's own page stand its modules and packages."""
    name = module.rpartition(".")[2]
    folder = ROOT.joinpath(*module.split("."))
    if not folder.is_dir():
        return {name: _reference(module)}
    children = [child for child in _modules(folder) if child.rpartition(".")[0] == module]
    return {name: [_reference(module), *map(_navigation, children)]}
