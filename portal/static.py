"""Static files under names with a hash of their content, compressed, cached for ever."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Front-end packages refer to source maps that are not needed to run: a missing one is no error."""

    manifest_strict = True
    support_js_module_import_aggregation = False

    def url_converter(self, name, hashed_files, template=None):  # type: ignore[no-untyped-def]
        convert = super().url_converter(name, hashed_files, template)

        def tolerant(match):  # type: ignore[no-untyped-def]
            matched = match.group(0)
            return matched if ".map" in matched else convert(match)

        return tolerant
