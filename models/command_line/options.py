"""Command-line options from the fields of a pydantic model, and commands that show and take them well."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from typer.core import TyperCommand, TyperGroup

from models.errors import ModelsError


def with_options(
    model: type[BaseModel], panels: Mapping[str, Sequence[str]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace a command's parameter ``config`` by an option for each field of a model, nested models included.

    The command gets a validated model. Only options that are given are passed to it, so that a model of settings takes the
    others from the environment.

    Args:
        model: fields are described by their docstrings.
        panels: names of fields by the heading that ``--help`` shows them under; other fields have none.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(command, include_extras=True)
        fields = dict(_fields_of(model))
        headings = {name: heading for heading, names in panels.items() for name in names}
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "config"]
        own = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
        made = [_parameter(name, info, headings.get(name)) for name, info in fields.items()]

        @functools.wraps(command)
        def parsed(**values: Any) -> Any:
            given = {name: values.pop(name) for name in fields}
            return command(**values, config=_validated(model, {k: v for k, v in given.items() if v not in (None, [])}))

        parameters = [*own, *made]
        parsed.__dict__["__signature__"] = inspect.Signature(parameters)
        parsed.__annotations__ = {p.name: p.annotation for p in parameters}
        return parsed

    return decorate


class Group(TyperGroup):
    """A group of commands; ``--help`` shows no types."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, the one for help included."""
        return _without_types(super().get_params(ctx))


class Command(TyperCommand):
    """A command whose options that can be repeated take several values at once: ``--data a.csv b.csv``."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, the one for help included."""
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line after repeating those options for each of their values."""
        repeatable = {flag: p.required for p in self.params if getattr(p, "multiple", False) for flag in p.opts}
        return super().parse_args(ctx, list(_repeat(args, repeatable)))


def _without_types(params: Any) -> Any:
    # Of switches and arguments. Options show their metavar in that place.
    for param in params:
        if param.param_type_name == "argument":
            param.display_type_rich = lambda ctx: None
        elif getattr(param, "is_bool_flag", False):
            param.metavar = ""
    return params


def _repeat(args: Sequence[str], repeatable: Mapping[str, bool]) -> Iterator[str]:
    # --hidden 8 4 becomes --hidden 8 --hidden 4; an option that is not required may have no value, which is the empty one.
    rest = list(args)
    while rest:
        flag = rest.pop(0)
        yield flag
        if flag not in repeatable:
            continue
        if rest and not rest[0].startswith("-"):
            yield rest.pop(0)
            while rest and not rest[0].startswith("-"):
                yield from (flag, rest.pop(0))
        elif not repeatable[flag]:
            yield ""


def _fields_of(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        if isinstance(info.default, BaseModel):
            yield from _fields_of(type(info.default))
        else:
            yield name, info


def _parameter(name: str, info: FieldInfo, panel: str | None) -> inspect.Parameter:
    # Values are text here: the model reads them.
    flag, default = name.replace("_", "-"), info.default
    text = " ".join((info.description or name).replace("``", "`").split())
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    if isinstance(default, bool):
        shown = "on" if default else "off"
    if default is not None:
        text = f"{text} (default: {shown})"
    if isinstance(default, bool):
        option = typer.Option(f"--{flag}/--no-{flag}", help=text, rich_help_panel=panel)
    else:
        option = typer.Option(f"--{flag}", metavar=_metavar(info), help=text, rich_help_panel=panel)
    kind: Any = bool | None if isinstance(default, bool) else list[str] if isinstance(default, tuple) else str | None
    empty: Any = [] if isinstance(default, tuple) else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=empty, annotation=Annotated[kind, option])


def _metavar(info: FieldInfo) -> str:
    # What stands for the value in --help, in a person's words.
    annotation = info.annotation
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    options = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, options))
    kind = next((t for t in (annotation, *options) if t in (int, float, Path, SecretStr)), None)
    if isinstance(info.default, tuple):
        return "N..."
    return {int: "N", float: "X", Path: "PATH", SecretStr: "URL"}.get(kind, "TEXT")  # type: ignore[arg-type]


def _validated(model: type[BaseModel], given: Mapping[str, Any]) -> BaseModel:
    try:
        return model(**_arranged(model, given))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        names = [part for part in first["loc"] if part in dict(_fields_of(model))]
        if not names:
            raise ModelsError(message) from error
        variable = f"{model.model_config.get('env_prefix', '')}{names[0]}".upper()  # of settings
        shown = f"--{names[0].replace('_', '-')}" if names[0] in given else variable
        raise ModelsError(f"{shown}: {message}") from error


def _arranged(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    # The values as the model nests them. The empty value of a list stands for no value at all.
    found: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.default, BaseModel):
            found[name] = _arranged(type(info.default), given)
        elif name in given:
            value = given[name]
            found[name] = [item for item in value if item != ""] if isinstance(value, list) else value
    return found
