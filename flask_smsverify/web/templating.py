"""A Jinja environment for the package's own templates, independent of the host's.

The host may have other delimiters, `StrictUndefined`, `trim_blocks`, a `finalize` function or no
autoescaping. None of this applies to the package's templates: they are compiled in an environment
of their own, which shares the globals, filters, tests and loader of the host's environment. If the
host replaces a template, the replacement is compiled in the host's environment. Both kinds can
extend, include and import each other.

The file that the host's loader finds decides which of the two compiles a template.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from pathlib import Path
from types import CodeType
from typing import Any

from flask import Flask, current_app, render_template
from jinja2 import (
    BaseLoader,
    Environment,
    FileSystemLoader,
    Template,
    TemplateNotFound,
    Undefined,
    defaults,
)
from jinja2.bccache import Bucket, BytecodeCache

from .interface import Interface

_TEMPLATES = Path(__file__).parent.parent / "templates"
#: The options for which the templates of the package are written.
_SYNTAX: dict[str, Any] = {
    "block_start_string": defaults.BLOCK_START_STRING,
    "block_end_string": defaults.BLOCK_END_STRING,
    "variable_start_string": defaults.VARIABLE_START_STRING,
    "variable_end_string": defaults.VARIABLE_END_STRING,
    "comment_start_string": defaults.COMMENT_START_STRING,
    "comment_end_string": defaults.COMMENT_END_STRING,
    "line_statement_prefix": None,
    "line_comment_prefix": None,
    "trim_blocks": False,
    "lstrip_blocks": False,
    "newline_sequence": "\n",
    "keep_trailing_newline": False,
    "undefined": Undefined,
    "finalize": None,
    "autoescape": True,
}
_Source = tuple[str, str | None, Callable[[], bool] | None]


class _CompiledTemplates(BytecodeCache):
    """Keeps the compiled templates of the package for all apps of the process.

    A test suite makes an app for each test, and compiling takes longer than rendering.
    """

    def __init__(self) -> None:
        self._codes: dict[str, CodeType] = {}

    def get_bucket(
        self, environment: Environment, name: str, filename: str | None, source: str
    ) -> Bucket:
        """Return the bucket of a template, for environments that compile it in the same way."""
        kind = f"{environment.sandboxed} {environment.is_async} {sorted(environment.filters)}"
        checksum = self.get_source_checksum(source)
        key = f"{self.get_cache_key(name, filename)} {kind} {checksum}"
        bucket = Bucket(environment, key, checksum)
        self.load_bytecode(bucket)
        return bucket

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take the compiled template out of the cache, if it is there."""
        bucket.code = self._codes.get(bucket.key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Put a compiled template into the cache."""
        if bucket.code is not None:
            self._codes[bucket.key] = bucket.code


_COMPILED = _CompiledTemplates()


class _Loader(BaseLoader):
    """Wraps the loader of the host's environment."""

    def __init__(self, app: Flask, host_loader: BaseLoader, ui: Interface) -> None:
        self._app = app
        self._host_loader = host_loader
        self._package_loader = FileSystemLoader(_TEMPLATES)
        self._ui = ui
        self._own: Environment | None = None

    def get_source(self, environment: Environment, template: str) -> _Source:
        try:
            return self._host_loader.get_source(environment, template)
        except TemplateNotFound as missing:  # a loader of the host's that knows no blueprints
            try:
                return self._package_loader.get_source(environment, template)
            except TemplateNotFound:
                raise missing from None

    def list_templates(self) -> list[str]:
        return self._host_loader.list_templates()

    def load(
        self,
        environment: Environment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 -- the name in Jinja
    ) -> Template:
        own = self._own_environment()
        _, filename, _ = self.get_source(environment, name)
        if filename is not None and Path(filename).is_relative_to(_TEMPLATES):
            if environment is own:
                return super().load(environment, name, globals)
            return own.get_template(name)
        if environment is own:
            return self._app.jinja_env.get_template(name)
        return self._host_loader.load(environment, name, globals)

    def _own_environment(self) -> Environment:
        if self._own is None:
            host = self._app.jinja_env
            host.globals.setdefault("smsverify_ui", self._ui)  # also for imported macros
            own = host.overlay(**_SYNTAX)
            own.extensions = {}
            # The host's cache has the same keys for both environments.
            own.bytecode_cache = _COMPILED
            own.loader = self
            self._own = own
        return self._own


def install(app: Flask, ui: Interface) -> None:
    """Wrap the loader of an app's Jinja environment, now or when the environment is created.

    Creating it here would fix the options that the host sets later.
    """
    if "jinja_env" in vars(app):
        _wrap(app, ui)
        return
    create = app.create_global_jinja_loader

    def create_global_jinja_loader() -> BaseLoader:
        return _Loader(app, create(), ui)

    app.create_global_jinja_loader = create_global_jinja_loader  # type: ignore[method-assign, assignment]  # any loader works
    app.context_processor(lambda: {"smsverify_ui": ui})


def render(name: str, **context: Any) -> str:
    """Render a template of the package, or the host's in its place."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a werkzeug LocalProxy
    if not isinstance(app.jinja_env.loader, _Loader):  # the host has replaced the loader
        _wrap(app, app.extensions["smsverify_ui"])
    return render_template(name, **context)


def is_own(name: str) -> bool:
    """Return whether the host has not replaced a template of the package."""
    filename = current_app.jinja_env.get_template(name).filename
    return filename is not None and Path(filename) == _TEMPLATES / name


def _wrap(app: Flask, ui: Interface) -> None:
    environment = app.jinja_env
    loader = environment.loader or FileSystemLoader(_TEMPLATES)
    environment.loader = _Loader(app, loader, ui)
    environment.globals["smsverify_ui"] = ui
