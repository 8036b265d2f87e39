"""data=mix: each of its data sets written out, with the YAML file in conf/data/ that it names, and the folders of all.

`data.sets={iu_xray: {root: DIR}, padchest: {root: DIR, weight: 0.5}}` becomes, for each name, the node of a data set:
`_target_`, its arguments, and a weight.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.config.targets import Target
from r2gen.config.yaml_files import read_text, read_yaml
from r2gen.errors import UserError, shown

MIX = "r2gen.data.mix.Mix"
CONF_DATA = Path(__file__).resolve().parent.parent.parent / "conf" / "data"
CHOICE, WEIGHT = "data", "weight"  # of a set, besides the arguments of its class
MOST = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
Read = Callable[[Plain, str], Target]  # read.read_target for one set


def with_sets(target: Target, read: Read) -> Target:
    """A mix whose sets are written out and checked; any other target as it is. Raises UserError naming the option."""
    if target.name != MIX:
        return target
    sets = target.arguments["sets"]
    if len(sets) < 1:
        raise UserError("data=mix: name its data sets, as in 'data.sets={iu_xray: {root: DIR}, padchest: {root: DIR}}'")
    return target.with_arguments(sets={name: _written_out(name, node, read) for name, node in sets.items()})


def _written_out(name: str, node: Any, read: Read) -> Plain:
    option = f"data.sets.{name}"
    if not _NAME.fullmatch(name):
        raise UserError(f"{shown(option)}: a name has letters, digits, _ and - only: it begins the ids of studies")
    if not isinstance(node, dict):
        raise UserError(f"{option}={shown(node)}: give the options of a data set, such as {{root: DIR}}")
    node = dict(node)
    weight = node.pop(WEIGHT, 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= MOST:
        raise UserError(f"{option}.{WEIGHT}={shown(weight)}: give a number above 0 and up to {MOST:,}")
    choice = node.pop(CHOICE, None if "_target_" in node else name)
    if "_target_" not in node:
        node = {**_yaml(str(choice), option), **node}
    target = read(node, option)
    if target.name == MIX:
        raise UserError(f"{option}: a mix cannot contain another one: list its sets here")
    if target.get("root") == "":
        raise UserError(f"{option}.root is empty: give the folder")
    of_yaml = {} if choice is None else {CHOICE: str(choice)}
    return {"_target_": target.name, **of_yaml, **target.arguments, WEIGHT: float(weight)}


def _yaml(choice: str, option: str) -> Plain:
    """The node in conf/data/<choice>.yaml."""
    choices = sorted(file.stem for file in CONF_DATA.glob("*.yaml"))
    if choice not in choices:
        raise UserError(
            f"{option}: there is no conf/data/{shown(choice)}.yaml. Add data: NAME, one of {', '.join(choices)}"
        )
    file = CONF_DATA / f"{choice}.yaml"
    content: Plain = read_yaml(read_text(file), file)
    return content if "_target_" in content else content.get("data", {})  # with `# @package _global_`


def set_targets(sets: Mapping[str, Plain]) -> dict[str, Target]:
    """The data set of each name, without its weight."""
    others = ("_target_", CHOICE, WEIGHT)
    return {
        name: Target(node["_target_"], {key: node[key] for key in node if key not in others})
        for name, node in sets.items()
    }


def choices_of(data: Target, choice: str | None) -> dict[str, str | None]:
    """Set to the option of the group `data` that it is, for a mix; otherwise `choice` under its own name."""
    if data.name == MIX:
        return {name: node.get(CHOICE) for name, node in data.arguments["sets"].items()}
    return {str(choice): choice}


def roots(data: Target) -> dict[str, Any]:
    """Option to folder: data.root, or that of each set of a mix."""
    if data.name == MIX:
        sets = data.arguments["sets"].items()
        return {f"data.sets.{name}.root": node["root"] for name, node in sets if "root" in node}
    return {"data.root": data.arguments["root"]} if "root" in data.arguments else {}


def with_roots(data: Target, change: Callable[[Any], Any]) -> Target:
    """The target with each of its folders changed; a folder that is null stays."""
    if data.name == MIX:
        sets = {
            name: {**node, "root": change(node["root"])} if node.get("root") is not None else node
            for name, node in data.arguments["sets"].items()
        }
        return data.with_arguments(sets=sets)
    return data if data.get("root") is None else data.with_arguments(root=change(data.arguments["root"]))
