"""Write the JSON Schemas of a release of aind-data-schema, or validate documents with its models.

Runs in an environment that has nothing but that release (`tests.support.schema_releases`), so that
it imports nothing of this project.
"""

import enum
import importlib
import json
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

MODELS = {
    "subject": "Subject",
    "procedures": "Procedures",
    "data_description": "DataDescription",
    "session": "Session",
    "acquisition": "Acquisition",
    "rig": "Rig",
    "instrument": "Instrument",
    "processing": "Processing",
    "quality_control": "QualityControl",
    "model": "Model",
    "metadata": "Metadata",
}
_WORDS = {"title", "description", "examples", "default", "discriminator"}
"""Keywords that decide nothing about a document."""
_TYPES = {"null", "boolean", "object", "array", "number", "integer", "string"}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


class Generator(GenerateJsonSchema):
    """Describes times and decimal numbers as the models read them, by formats of the product.

    JSON Schema's own formats of times require an offset, and its numbers are not text.
    """

    def date_schema(self, schema: Any) -> Any:
        """Accept a date, or a date and time at midnight."""
        return {"type": "string", "format": "date"}

    def datetime_schema(self, schema: Any) -> Any:
        """Accept a time without an offset: every model takes it as local time."""
        return {"type": "string", "format": "date-time"}

    def time_schema(self, schema: Any) -> Any:
        """Accept a time of day without an offset."""
        return {"type": "string", "format": "time"}

    def decimal_schema(self, schema: Any) -> Any:
        """Accept a number, or a number as text, within the same limits."""
        limits = {word: int(schema[key]) for key, word in _LIMITS.items() if key in schema}
        return {"type": ["number", "string"], **limits, "format": _number_format(limits)}

    def function_after_schema(self, schema: Any) -> Any:
        """Keep the limits of a decimal that may be null, which pydantic 2.7 has as functions."""
        inner, limits = schema, {}
        while inner["type"] == "function-after":
            limits |= getattr(inner["function"]["function"], "keywords", {})
            inner = inner["schema"]
        if inner["type"] == "decimal":
            return self.decimal_schema({**inner, **limits})
        return super().function_after_schema(schema)


def _number_format(limits: dict[str, int]) -> str:
    """Name the format of a number as text; the product has to know it."""
    match limits:
        case {"minimum": least, "maximum": most}:
            return f"number from {least} to {most}"
        case {"minimum": least}:
            return f"number of at least {least}"
    if limits:
        raise ValueError(f"there is no format for numbers with the limits {limits}")
    return "number"


def models() -> dict[str, Any]:
    """Import the models that this release has, by kind of document."""
    found = {}
    for kind, name in MODELS.items():
        try:
            found[kind] = getattr(importlib.import_module(f"aind_data_schema.core.{kind}"), name)
        except ModuleNotFoundError:
            continue
    return found


def schemas() -> dict[str, Any]:
    """Write the schema of each kind of document, without what decides nothing."""
    found = models()
    written = {}
    for kind, model in found.items():
        schema = model.model_json_schema(schema_generator=Generator)
        schema["properties"].get("describedBy", {}).pop("const", None)  # the models take any text
        if kind == "metadata":  # as the model does, which judges its parts on their own
            for part in found.keys() & schema["properties"].keys():
                schema["properties"][part] = {"type": ["object", "null"]}
        written[kind] = _with_used_definitions(_with_shared_choices(compact(schema)))
    return written


def compact(schema: Any) -> Any:
    """Shorten a schema, and have it say which variant is meant where a property decides that."""
    if not isinstance(schema, dict):
        return schema
    short = {key: _keyword(key, value) for key, value in schema.items() if key not in _WORDS}
    if isinstance(short.get("type"), str) and short["type"] not in _TYPES:
        del short["type"]  # generation 2 has a remark of its own there
    if short.keys() & {"enum", "const"}:
        short.pop("type", None)  # else one mistake is two errors
    decides = schema.get("discriminator")
    variants = short.get("anyOf")
    if decides and "oneOf" in short:
        del short["oneOf"]
        short["allOf"] = _by_property(decides["propertyName"], decides["mapping"])
    elif variants and {"type": "null"} in variants and len(variants) == 2:
        del short["anyOf"]
        other = variants[1 - variants.index({"type": "null"})]
        short |= {"if": {"type": "null"}, "else": other}
    return short


def _by_property(name: str, mapping: dict[str, str]) -> list[Any]:
    """Require a property with one of some values, and of each value its own schema."""
    choice = {"required": [name], "type": "object", "properties": {name: {"enum": [*mapping]}}}
    return [choice] + [
        {
            "if": {"required": [name], "properties": {name: {"const": value}}},
            "then": {"$ref": target},
        }
        for value, target in mapping.items()
    ]


def _keyword(key: str, value: Any) -> Any:
    """Shorten what a keyword says."""
    if key in ("properties", "$defs", "patternProperties"):
        return {name: compact(one) for name, one in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [compact(one) for one in value]
    return value if key in ("const", "enum") else compact(value)


def _with_shared_choices(schema: dict[str, Any]) -> dict[str, Any]:
    """Define once what is chosen from in several places, such as all manufacturers."""
    definitions = schema.setdefault("$defs", {})
    names: dict[str, str] = {}

    def shared(part: Any) -> Any:
        if isinstance(part, list):
            return [shared(one) for one in part]
        if not isinstance(part, dict):
            return part
        part = {key: shared(value) for key, value in part.items()}
        if [*part] != ["allOf"]:
            return part
        written = json.dumps(part)
        if written not in names:
            names[written] = f"choice{len(names)}"
            definitions[names[written]] = part
        return {"$ref": f"#/$defs/{names[written]}"}

    defined = {name: shared(one) for name, one in list(definitions.items())}
    rest = {key: shared(value) for key, value in schema.items() if key != "$defs"}
    return {**rest, "$defs": definitions | defined}


def _with_used_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out the definitions that nothing refers to."""
    definitions = schema.pop("$defs", {})
    used: dict[str, Any] = {}
    left = [schema]
    while left:
        for name in _references(left.pop()):
            if name not in used:
                used[name] = definitions[name]
                left.append(definitions[name])
    return {**schema, "$defs": {name: used[name] for name in sorted(used)}} if used else schema


def _references(schema: Any) -> set[str]:
    """Name the definitions that a schema refers to."""
    if isinstance(schema, list):
        return {name for one in schema for name in _references(one)}
    if not isinstance(schema, dict):
        return set()
    found = {name for key, value in schema.items() for name in _references(value)}
    target = schema.get("$ref")
    return found | {target.rpartition("/")[2]} if isinstance(target, str) else found


def terms() -> dict[str, Any]:
    """Write the terms of this release: modalities, platforms, organizations, registries, animals.

    All in full, but of those organizations that may fund and that may collect data the names.
    """
    return {
        "modalities": _terms("modalities", "Modality"),
        "platforms": _terms("platforms", "Platform"),
        "organizations": _terms("organizations", "Organization"),
        "funders": _names_of("FUNDERS"),
        "institutions": _names_of("RESEARCH_INSTITUTIONS"),
        "registries": _registries(),
        "species": _terms("species", "Species"),
        "strains": _terms("species", "Strain"),
    }


def structures() -> list[Any]:
    """Write the structures of the brain that this release has, in full."""
    try:
        module = _module("brain_atlas")
    except ModuleNotFoundError:  # as of generation 1
        return []
    known = getattr(module, "CCFStructure", None) or module.CCFv3
    found = [one for one in vars(known).values() if hasattr(one, "acronym")]
    return [json.loads(one.model_dump_json()) for one in found]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"aind_data_schema_models.{name}")
    except ModuleNotFoundError:
        return importlib.import_module(f"aind_data_schema.models.{name}")


def _terms(module: str, name: str) -> list[Any]:
    try:
        known = getattr(_module(module), name)
    except (ModuleNotFoundError, AttributeError):  # platforms until generation 1, strains since 2
        return []
    terms = [one() if isinstance(one, type) else one for one in _every(known)]
    return [json.loads(one.model_dump_json()) for one in terms]


def _names_of(role: str) -> list[str]:
    """Name the organizations that have a role; as of generation 2 every one may have each."""
    found = getattr(_module("organizations").Organization, role, None)
    if found is None:
        return []
    return [*TypeAdapter(found).json_schema()["discriminator"]["mapping"]]


def _every(known: Any) -> Any:
    return known.ALL if hasattr(known, "ALL") else known._ALL


def _registries() -> list[Any]:
    for module in ("registries", "registry"):
        try:
            known = _module(module).Registry
        except ModuleNotFoundError:
            continue
        if isinstance(known, type(enum.Enum)):
            return [one.value for one in known]
        return [json.loads(one().model_dump_json()) for one in _every(known)]
    return []


def problems(kind: str, content: Any) -> list[str]:
    """List what the model of a kind of document says against a document."""
    try:
        models()[kind].model_validate_json(json.dumps(content))
    except (ValueError, KeyError) as error:  # rules between fields look for those that were wrong
        return [repr(error)]
    return []


def main() -> None:
    """Print the schemas and the terms, and what is wrong with the documents on stdin.

    All at once, because importing a release can take ten seconds.
    """
    wrong = [problems(one["kind"], one["content"]) for one in json.load(sys.stdin)]
    given = {"schemas": schemas(), "terms": terms(), "structures": structures()}
    json.dump({**given, "problems": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
