"""Ways to damage a file: as bytes, as a volume's header, and as the values that a text holds.

A mutation takes the content of a sound file and a generator, and returns what a hostile or broken
program might have written instead.
"""

import copy
import gzip
import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import yaml
from nibabel.nifti1 import header_dtype

Mutation = Callable[[bytes, Random], bytes]

_GZIP = b"\x1f\x8b"
_NUMBERS = (0, -1, 1, 2**15, 2**31 - 1, 2**63, -(2**31), 10**29, 10**400)
_FLOATS = (math.nan, math.inf, -math.inf, 1e308, -0.0, 1e-320, 0.5)
_TEXTS = ("", " ", "x" * 5000, "../../../etc/passwd", "\x00", "\ud800", "é\n\t'\"", "nan", "1e999")
_TOKENS = (
    *("[" * 5000, '{"a":' * 5000, "]", "}", ",", ":", "NaN", "-Infinity", "9" * 5000, "1e999"),
    *("\x00", "\ufeff", "\t", "!!python/object/apply:os.system ['touch canary']\n", "&a [*a]"),
    *(
        "!!int x",
        "!!timestamp x",
        "*nobody",
        "? [a]: b\n",
        "- " * 2000,
        "%YAML 9\n---\n",
        "2020-99-99",
    ),
    *(
        "${oc.env:HOME}",
        "${x}",
        "<<: 1\n",
        "0x_",
        "1:99:99",
        "x" * 140_000,
        '"',
        "'",
        "#",
        "\r",
        ";",
        "|\n",
    ),
)
# Of the 348 bytes, what tells of shapes, types, places and scales.
_HEADER_FIELDS = (
    *("sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter"),
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "srow_x", "srow_y", "srow_z", "magic", "intent_code"),
)


def damage_bytes(content: bytes, random: Random) -> bytes:
    """Flip bits, overwrite, cut off, take out or repeat bytes."""
    data = bytearray(content)
    if not data:
        return bytes(random.randbytes(9))
    kind = random.choice(("flip", "run", "truncate", "delete", "repeat", "noise"))
    at, length = random.randrange(len(data)), random.randint(1, 64)
    if kind == "flip":
        for _ in range(random.randint(1, 8)):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == "run":
        data[at : at + length] = random.choice((b"\0", b"\xff", b"\x80", b"0")) * length
    elif kind == "truncate":
        del data[at:]
    elif kind == "delete":
        del data[at : at + length]
    elif kind == "repeat":
        data[at:at] = data[at : at + length] * random.randint(1, 9)
    else:
        data[at : at + length] = random.randbytes(length)
    return bytes(data)


def damage_start(content: bytes, random: Random) -> bytes:
    """Damage the first bytes, where formats keep what the rest means."""
    return damage_bytes(content[:512], random) + content[512:]


def damage_unpacked(content: bytes, random: Random) -> bytes:
    """Damage what a gzip file holds, so that its checksum agrees."""
    if not content.startswith(_GZIP):
        return damage_start(content, random)
    return gzip.compress(damage_start(gzip.decompress(content), random), 1)


def damage_nifti_header(content: bytes, random: Random) -> bytes:
    """Give fields of a NIfTI header extreme values."""
    is_packed = content.startswith(_GZIP)
    data = bytearray(gzip.decompress(content) if is_packed else content)
    header = np.frombuffer(data, header_dtype, count=1)[0].copy()
    for name in random.sample(_HEADER_FIELDS, random.randint(1, 3)):
        _set_extreme(header, name, random)
    data[: header.nbytes] = header.tobytes()
    return gzip.compress(bytes(data), 1) if is_packed else bytes(data)


def _set_extreme(header: Any, name: str, random: Random) -> None:
    """Set a field, or one of its numbers, to what its type can hold at most, least or at random."""
    kind = header.dtype[name].base
    if kind.kind == "f":
        value: Any = random.choice((*_FLOATS, 1e20, -3.0))
    elif kind.kind in "iu":
        bounds = np.iinfo(kind)
        extremes = (bounds.min, bounds.max, 0, 1, 2, 3, 4, 8, 16, 64, 128, 512, 1792)
        allowed = [number for number in extremes if bounds.min <= number <= bounds.max]
        value = random.choice((*allowed, random.randint(bounds.min, bounds.max)))
    else:
        value = random.randbytes(kind.itemsize)
    with np.errstate(over="ignore"):
        if header[name].ndim:
            header[name][random.randrange(header[name].size)] = value
        else:
            header[name] = value


def damage_text(content: bytes, random: Random) -> bytes:
    """Put words that parsers stumble over into a text, or in place of some of its words."""
    text = content.decode("utf-8", "replace")
    at = random.randrange(len(text) + 1)
    stop = at + random.choice((0, 0, 1, 5, 40))
    return (text[:at] + random.choice(_TOKENS) + text[stop:]).encode("utf-8", "surrogatepass")


def damage_lines(content: bytes, random: Random) -> bytes:
    """Swap, repeat, drop or join lines and cells of a table."""
    lines = content.decode("utf-8", "replace").split("\n")
    at = random.randrange(len(lines))
    kind = random.choice(("drop", "repeat", "swap", "cell", "delimiter"))
    if kind == "drop":
        del lines[at]
    elif kind == "repeat":
        lines[at:at] = [lines[at]] * random.choice((1, 2, 500))
    elif kind == "swap":
        other = random.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "cell":
        cells = lines[at].split(",")
        cells[random.randrange(len(cells))] = str(random.choice(_FLOATS + _TEXTS + ("-1", "1e400")))
        lines[at] = ",".join(cells)
    else:
        lines[at] = lines[at].replace(",", random.choice((";", "\t", ",,", "")))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damage_json(content: bytes, random: Random) -> bytes:
    """Change the values that a JSON text, or each of its lines, holds."""
    text = content.decode()
    try:
        return _dump_json(damage_value(json.loads(text), random))
    except json.JSONDecodeError:  # an object per line
        lines = text.split("\n")
        at = random.randrange(len(lines) - 1)
        lines[at] = _dump_json(damage_value(json.loads(lines[at]), random)).decode()
        return "\n".join(lines).encode()


def damage_yaml(content: bytes, random: Random) -> bytes:
    """Change the values that a YAML text holds."""
    return _dump_yaml(damage_value(yaml.safe_load(content), random))


def damage_value(value: Any, random: Random) -> Any:
    """Change some of the values in a tree of dicts and lists; the tree given stays as it is."""
    changed = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 2, 4))):
        places = list(_places(changed))
        holder, key = random.choice(places)
        kind = random.choice(("replace", "replace", "delete", "wrap", "swap", "rename"))
        if kind == "delete" and holder is not changed:
            del holder[key]
        elif kind == "wrap":
            holder[key] = random.choice(([holder[key]], {"a": holder[key]}, [holder[key]] * 3))
        elif kind == "swap":
            other, place = random.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif kind == "rename" and isinstance(holder, dict):
            holder[random.choice((*_TEXTS[:1], *_TEXTS[3:5], f"{key}x", "1"))] = holder.pop(key)
        else:
            holder[key] = _odd_value(random)
    return changed[0]


def _places(holder: Any) -> Any:
    """Yield each container of a tree with each of its keys."""
    for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _odd_value(random: Random) -> Any:
    pool = random.choice((_NUMBERS, _FLOATS, _TEXTS, (None, True, False), ([], {}, [[]], [{}])))
    value = random.choice(pool)
    return copy.deepcopy(value)


def _dump_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _dump_yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
