"""The standard as dicom-validator wants it, without a network: it would fetch PS3's DocBook, and so is given the tables
of PS3.3 (2020) that the package dicom-standard brings."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.serializer import DefinitionEncoder
from dicom_validator.validator.dicom_info import DicomInfo

URN = "(0008,0120)"
"""Its condition, that a code is a URL, is read as if every long code were one."""

CONTENT = "(0040,A730)"
VALUE_TYPES = {
    "(0008,1199)": "IMAGE, COMPOSITE or WAVEFORM",
    "(0040,A050)": "CONTAINER",
    "(0040,A130)": "TCOORD",
    "(0040,A138)": "TCOORD",
    "(0040,A13A)": "TCOORD",
    "(0040,A168)": "CODE",
    "(0040,A300)": "NUM",
    "(0070,0022)": "SCOORD or SCOORD3D",
    "(0070,0023)": "SCOORD or SCOORD3D",
    "(3006,0024)": "SCOORD3D",
}
"""Which content items of a report need an attribute (PS3.3, section C.17.3): the package's tables include the macros of
all value types without their conditions."""


def definitions(*sop_classes: str) -> DicomInfo:
    """Give what the standard says of some SOP classes: their modules, and of each attribute type and condition."""
    dictionary = {
        row["tag"].replace("XX", "00"): {
            "name": row["name"],
            "vr": row["valueRepresentation"],
            "vm": row["valueMultiplicity"],
            "prop": "RET" if row["retired"] == "Y" else "",
        }
        for row in _table("attributes")
    }
    parser = ConditionParser(dictionary)
    iods = {uid: _modules_of(uid, parser) for uid in sop_classes}
    wanted = {module["ref"] for iod in iods.values() for module in iod["modules"].values()}
    modules: dict[str, dict[str, Any]] = {name: {} for name in wanted}
    for row in sorted(_table("module_to_attributes"), key=lambda row: row["path"].count(":")):
        if row["moduleId"] in wanted:
            _add(modules[row["moduleId"]], row, parser, dictionary)
    # As it is written to and read from its cache.
    dictionary, iods, modules = json.loads(json.dumps([dictionary, iods, modules], cls=DefinitionEncoder))
    if content := modules.get("sr-document-content", {}).get(CONTENT):
        content["items"][CONTENT] = content  # content items hold content items
    return DicomInfo(dictionary, iods, modules)


def _modules_of(uid: str, parser: ConditionParser) -> dict[str, Any]:
    title = next(row["ciod"] for row in _table("sops") if row["id"] == uid)
    ciod = next(row["id"] for row in _table("ciods") if row["name"] == title)
    names = {row["id"]: row["name"] for row in _table("modules")}
    modules = {}
    for row in _table("ciod_to_modules"):
        if row["ciodId"] == ciod:
            module = {"ref": row["moduleId"], "use": row["usage"]}
            if row["usage"] == "C":
                module["cond"] = parser.parse("C - " + (row["conditionalStatement"] or ""))
            modules[names[row["moduleId"]]] = module
    return {"title": title, "modules": modules, "group_macros": {}}


def _add(module: dict[str, Any], row: dict[str, Any], parser: ConditionParser, dictionary: dict[str, Any]) -> None:
    *sequences, own = (f"({tag[:4]},{tag[4:]})".upper().replace("XX", "00") for tag in row["path"].split(":")[1:])
    for sequence in sequences:
        if sequence not in module:
            return
        module = module[sequence].setdefault("items", {})
    if own not in dictionary or row["type"] == "None" or own == URN:
        return
    attribute = {"name": dictionary[own]["name"], "type": row["type"]}
    if row["moduleId"] == "sr-document-content" and own in VALUE_TYPES and own not in sequences:
        condition = f"Required if Value Type (0040,A040) is {VALUE_TYPES[own]}."
        attribute |= {"type": "1C", "cond": parser.parse(condition)}
    elif row["type"] in ("1C", "2C"):
        text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", row["description"])))
        attribute["cond"] = parser.parse(text.strip())
    module[own] = attribute


@cache
def _table(name: str) -> list[dict[str, Any]]:
    path = next(file for file in files("dicom-standard") or () if file.name == f"{name}.json")
    rows: list[dict[str, Any]] = json.loads(Path(str(path.locate())).read_text())
    return rows
