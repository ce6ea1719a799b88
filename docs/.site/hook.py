"""The pages link files of the repository as GitHub shows them; the site finds them here."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#]+)")


def on_files(files, config):
    """The notebooks and their pictures are part of the site."""
    for path in sorted((ROOT / "notebooks").rglob("*")):
        if path.suffix in (".ipynb", ".png"):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File(uri, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


on_files.mkdocs_priority = 100  # before the plugin that shows notebooks


def on_page_markdown(markdown, page, config, files):
    """Lead links out of `docs` to the notebooks here, and all others to the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(link):
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        if path.startswith("docs/"):
            return link[0]
        if path.startswith("notebooks/"):
            return link[1] + posixpath.relpath(path, folder or ".")
        return f"{link[1]}{config.repo_url}/blob/main/{path}"

    return LINK.sub(inside, markdown)


def on_page_content(html, page, config, files):
    """Notebooks link each other as files; the site has a page for each."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def to_page(link):
        target = files.get_file_from_path(f"notebooks/{link[1]}")
        return f'href="{target.url_relative_to(page.file)}"'

    return re.sub(r'href="([^"/]+\.ipynb)"', to_page, html)
