"""Reading params.yaml against a stage's own schema, with errors worded for people.

Every stage declares the part of params.yaml that it reads as a pydantic model and gets it back checked and frozen.
A stage sees only its own blocks, so that editing one stage's schema leaves the others' results valid.
"""

import difflib
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.plumbing.errors import UserError


class Block(BaseModel):
    """A block of params.yaml: every key is known, of the right type, and constant once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

Schema = TypeVar("Schema", bound=BaseModel)


def load(path: Path) -> dict:
    """The whole of params.yaml as nested dictionaries. Raises UserError if it cannot be read as that."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or name the file with --params") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name the file with --params") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{path}:{where} is not valid YAML ({problem})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


def read(schema: type[Schema], path: Path) -> Schema:
    """The blocks of the file at `path` that `schema` names, validated.

    Keys at the top level that `schema` does not name belong to other stages and are ignored; inside a block of the
    schema every key must be known. Raises UserError that names the first wrong key, what was expected and the way out.
    """
    content = load(path)
    mine = {name: content[name] for name in schema.model_fields if name in content}
    try:
        return schema.model_validate(mine)
    except ValidationError as error:
        # A misspelled key is an unknown one and a missing one: the unknown one, with what was meant, tells more.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UserError(f"{path}: {_explain(schema, first)}") from None


def _explain(schema: type[BaseModel], error: dict) -> str:
    """One pydantic error as a line for people."""
    location = [str(part) for part in error["loc"]]
    key, given = ".".join(location), error.get("input")
    if error["type"] == "missing":
        return f"{key} is missing; add it (the committed params.yaml shows every key with its meaning)"
    if error["type"] == "extra_forbidden":
        known = _keys_beside(schema, location)
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"
        return f"{key} is not a known key; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if isinstance(given, str) and "number" in message and _is_number(given):
        message += "; YAML reads 1e-4 as text, write 1.0e-4"
    # An error about a whole block names no single value; printing the block would only bury the message.
    return f"{key} = {given!r}: {message}" if not isinstance(given, dict) else f"{key or 'file'}: {message}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _keys_beside(schema: type[BaseModel], location: list[str]) -> list[str]:
    """The keys that the schema allows in the block that holds the key at `location`."""
    for name in location[:-1]:
        field = schema.model_fields.get(name)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        schema = field.annotation
    return list(schema.model_fields)
