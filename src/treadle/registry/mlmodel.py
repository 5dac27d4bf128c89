"""The `MLmodel` file: what MLflow writes beside a model's files to say how they are loaded. Written for our bundles, read for theirs.

It is YAML of a plain form; the few facts that are needed are read without a YAML library, and nothing in it is executed.
"""

import json
import re
from typing import Any

from treadle.records.models import Bundle

#: Types of MLflow's schemas by the first letters of ours.
_TYPES = {"Int": "long", "UInt": "long", "Float": "double", "String": "string", "Bool": "boolean", "Date": "datetime", "Cat": "string"}


def describe(sealed: Bundle, digest: str) -> dict[str, bytes]:
    """The files that make a bundle's folder one that MLflow loads: `MLmodel` and, from it, requirements. Scores are the native model's."""
    paths = {file.path for file in sealed.files}
    numeric = all(column.categories is None for column in sealed.signature.inputs)
    flavors: list[str] = []
    if sealed.flavor == "lightgbm" and numeric:
        version = _version(sealed, "lightgbm")
        flavors += ["  lightgbm:", "    code: null", "    data: model.txt", f"    lgb_version: {version}"]
        flavors += ["    model_class: lightgbm.basic.Booster"]
        flavors += ["  python_function:", "    data: model.txt", "    env:", "      virtualenv: python_env.yaml"]
        flavors += ["    loader_module: mlflow.lightgbm", f"    python_version: {sealed.python}"]
    elif "model.onnx" in paths and numeric:
        flavors += ["  onnx:", "    code: null", "    data: model.onnx", f"    onnx_version: {_version(sealed, 'onnx')}"]
        flavors += ["    providers:", "    - CPUExecutionProvider"]
        flavors += ["  python_function:", "    data: model.onnx", "    env:", "      virtualenv: python_env.yaml"]
        flavors += ["    loader_module: mlflow.onnx", f"    python_version: {sealed.python}"]
    if not flavors:
        return {}
    inputs = [{"type": _type(c.dtype), "name": c.name, "required": not c.nullable} for c in sealed.signature.inputs]
    lines = [
        f"artifact_path: bundles/{digest}",
        "flavors:",
        *flavors,
        f"run_id: {json.dumps(sealed.run_id)}",
        "signature:",
        f"  inputs: {_quoted(json.dumps(inputs))}",
        "  outputs: null",
        "  params: null",
        f"utc_time_created: {_quoted(sealed.event_time.strftime('%Y-%m-%d %H:%M:%S.%f'))}",
    ]
    environment = [f"python: {sealed.python}", "build_dependencies: []", "dependencies:", "- -r requirements.txt"]
    made = {"MLmodel": _lines(lines), "python_env.yaml": _lines(environment)}
    if "requirements.txt" not in paths:
        made["requirements.txt"] = _lines(list(sealed.environment))
    return made


def schema_of(text: str) -> dict[str, str]:
    """Name → type of the inputs and outputs in an `MLmodel` file; empty where it has no signature."""
    found: dict[str, str] = {}
    for side in ("inputs", "outputs"):
        matched = re.search(rf"^  {side}: '((?:[^']|'')*)'", text, re.M)
        if matched is None:
            continue
        written = re.sub(r"\n\s*", " ", matched[1]).replace("''", "'")
        try:
            columns = json.loads(written)
        except ValueError:
            continue
        for place, column in enumerate(c for c in columns if isinstance(c, dict)):
            name = column.get("name") or (f"#{place}" if len(columns) > 1 else side[:-1])
            found[f"{side[:-1]} {name}"] = _shown(column)
    return found


def flavors_of(text: str) -> dict[str, dict[str, str]]:
    """Flavor → its plain settings (`data`, `model_class`, …) in an `MLmodel` file."""
    found: dict[str, dict[str, str]] = {}
    inside, flavor = False, ""
    for line in text.splitlines():
        if not line.startswith(" "):
            inside = line.rstrip() == "flavors:"
        elif inside and (matched := re.fullmatch(r"  ([\w.]+):\s*", line)):
            flavor = matched[1]
            found[flavor] = {}
        elif inside and flavor and (matched := re.fullmatch(r"    ([\w.]+): (.+)", line)):
            found[flavor][matched[1]] = matched[2].strip().strip("'\"")
    return found


def _shown(column: dict[str, Any]) -> str:
    if column.get("type") == "tensor":
        spec = column.get("tensor-spec") or {}
        return f"tensor {spec.get('dtype', '?')} {spec.get('shape', '')}"
    return str(column.get("type", "?")) + ("" if column.get("required", True) else " (optional)")


def _type(dtype: str) -> str:
    return next((kind for start, kind in _TYPES.items() if dtype.lower().startswith(start.lower())), "double")


def _version(sealed: Bundle, name: str) -> str:
    return next((line.partition("==")[2] for line in sealed.environment if line.partition("==")[0].lower() == name), "0")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _lines(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
