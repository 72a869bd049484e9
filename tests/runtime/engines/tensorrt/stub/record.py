"""Prints, as JSON, what the bindings that can be imported say of some names.

    python record.py Builder.create_network BuilderFlag.TF32 ...

A class or an enum's member is "name", a property "property", a method its list of signatures: the
parameters without self, those with a default marked "=". What is not there is null.
"""

import importlib
import json
import re
import sys


def describe(path, module):
    thing = module
    for part in path.split("."):
        thing = getattr(thing, part, None)
    if thing is None:
        return None
    if isinstance(thing, property):
        return "property"
    if isinstance(thing, type) or not callable(thing):
        return "name"
    return signatures(thing.__doc__ or "", path.split(".")[-1])


def signatures(document, name):
    found = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", document, re.MULTILINE)
    kept = [parameters(text) for text in found if text != "*args, **kwargs"]
    if not kept:
        raise SystemExit(f"no signature of {name} in: {document!r}")
    return kept


def parameters(text):
    """Parameter names of "self: Builder, flags: int = 0", split outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    names = [p.split(":")[0].strip() + ("=" if " = " in p else "") for p in parts if p.strip()]
    return [name for name in names if name != "self"]


if __name__ == "__main__":
    tensorrt = importlib.import_module("tensorrt")
    document = {"version": tensorrt.__version__}
    document["api"] = {path: describe(path, tensorrt) for path in sys.argv[1:]}
    print(json.dumps(document))  # noqa: T201  # its output
