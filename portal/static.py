"""Static files: just those front-end files that the pages load, under names with a hash of their content."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage, Storage
from whitenoise.storage import CompressedManifestStaticFilesStorage

# Where pages find it -> where npm put it.
FRONT_END = {
    "tabler/css/tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "alpine/cdn.min.js": "@alpinejs/csp/dist/cdn.min.js",
    "htmx/htmx.min.js": "htmx.org/dist/htmx.min.js",
    "uplot/uPlot.min.css": "uplot/dist/uPlot.min.css",
    "uplot/uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
}


class FrontEndFinder(BaseFinder):
    """Finds the files of FRONT_END in node_modules; the packages hold hundreds more that nobody loads."""

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        found = settings.NODE_MODULES / FRONT_END[path] if path in FRONT_END else None
        exists = found is not None and found.exists()
        if find_all:
            return [str(found)] if exists else []
        return str(found) if exists else []  # as Django's own do: None would count as a file

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterable[tuple[str, Storage]]:
        for path, source in FRONT_END.items():
            folder = FileSystemStorage(location=settings.NODE_MODULES / source.rsplit("/", 1)[0])
            folder.prefix = path.rsplit("/", 1)[0]  # type: ignore[attr-defined]  # as collectstatic reads it
            yield path.rsplit("/", 1)[1], folder


class HashedStaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # WhiteNoise has no types
    """A year in the browser's cache, since a changed file gets another name."""

    def url_converter(self, name: str, hashed_files: Any, template: str | None = None) -> Any:
        """As Django's, but a reference to a source map stays as it is: maps are not served."""
        convert = super().url_converter(name, hashed_files, template)

        def spare_maps(match: Any) -> str:
            text: str = match.group(0)
            return text if "sourceMappingURL" in text else convert(match)

        return spare_maps
