"""Hostile files of class labels."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.hostile_files import HostileFile, Loader, make_file, make_lazy_file
from tests.hostile.mutations import mutate_bytes
from tests.hostile.special_files import make_sparse_writer, yield_special_files
from tinyvit.data.label_matching import shorten_names
from tinyvit.labels import describe_labels, read_labels
from tinyvit.text.safe_text import print_lines

NAMES = ["tabby cat", "dog", "great owl", "bat", "cow, Jersey"]
IDS = ["n01440764", "n01443537", "n01484850", "n01491361", "n01494475"]
MAPS = {str(index): name for index, name in enumerate(NAMES)}

SAMPLES = {
    "names.txt": "\n".join(NAMES) + "\n",
    "keys.txt": "\n".join(f"{index}: {name}" for index, name in enumerate(NAMES)),
    "ids.txt": "\n".join(IDS),
    "bullets.txt": "\n".join(f'- "{name}"' for name in NAMES),
    "literal.txt": str(dict(enumerate(NAMES))),
    "list.names": "[\n" + ",\n".join(f"    '{name}'" for name in NAMES) + "]\n",
    "table.csv": 'index,wnid,name\n0,n01440764,tench\n1,n01443537,"gold, fish"\n',
    "table.tsv": "name\tindex\ncat\t1\ndog\t0\n",
    "excel.csv": "sep=;\nindex;name\n0;cat\n1;dog\n",
    "list.json": json.dumps(NAMES),
    "keras.json": json.dumps({"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}),
    "config.json": json.dumps({"id2label": MAPS, "label2id": dict(zip(NAMES, range(5))), "nc": 5}),
    "coco.json": json.dumps({"categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)]}),
    "nested.json": json.dumps({"model": {"data": {"class_to_idx": dict(zip(NAMES, range(5)))}}}),
    "data.yaml": "path: data\nnc: 2\nnames:\n  0: cat\n  1: dog\n",
    "list.yml": "- cat\n- dog\n",
}

_TEXTS = (
    *(
        "",
        "\n",
        "\0",
        "\ufeff",
        "[",
        "{",
        "(",
        '"',
        "'",
        "- ",
        "0",
        "0:",
        ",",
        ";",
        "\t",
        "&a",
        "*a",
    ),
    *("<html>", "version https://git-lfs", "%YAML 9.9\n---\n", "sep=", 'sep="\na"b', "sep=\t\n0"),
    *("\u0660: a\n\u0661: b", "\u00b2: a\n\u00b3: b", "0: a\n0: b", "1: a\n2: b", "-1: a\n0: b"),
    *("0: a\n99999999999999999999: b", "{0: 'a', 0x1: 'b'}", "{'a': 1e400}", "[1, 2, 3]"),
    *("{'a': '\\ud800', 'b': '\\x1b[2J'}", '["\\ud800", "\\u0000"]', '{"a": NaN, "b": Infinity}'),
    *('{"0": null, "1": {}}', '{"names": {"names": {"names": {}}}}', "!!python/object:os.system x"),
    *("a: !!binary x", "? [a]\n: b", "a: b\na: c", "---\na\n---\nb", "<<: {a: b}", HOSTILE_TEXT),
)
_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".yaml", "", ".names", ".py", ".toml")


def load_labels(path: Path) -> None:
    """Read labels as --labels does, and print them as the commands do."""
    labels = read_labels(path)
    print_lines(describe_labels(labels))
    print_lines(shorten_names([label.name for label in labels]))


def make_samples(folder: Path) -> Sequence[Path]:
    """Make a file of every form."""
    for name, text in SAMPLES.items():
        (folder / name).write_text(text)
    return [folder / name for name in SAMPLES]


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Mutate a cell of a table, a key or a line, and write the rest without change."""
    text = data.decode("utf-8", "replace")
    lines = text.split("\n")
    number = generator.randrange(len(lines))
    cells = next(csv.reader([lines[number]], delimiter=generator.choice(",;\t:")), [""]) or [""]
    place = generator.randrange(len(cells))
    values = ("", "0", "-1", "9" * 5000, "1e400", HOSTILE_TEXT, "n01440764", "a" * 3000, "\u0661")
    cells[place] = generator.choice((*values, *NAMES, " ", '"', "\\", "#"))
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=generator.choice(",;\t:"), lineterminator="").writerow(cells)
    lines[number] = buffer.getvalue()
    changed = "\n".join(lines).encode("utf-8", "surrogatepass")
    return changed if changed != data else mutate_bytes(data, generator)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files with hostile texts, of many sizes, in many encodings, and no files at all."""
    for text in _TEXTS:
        suffix = generator.choice(_SUFFIXES)
        data = text.encode("utf-8", "surrogatepass")
        yield make_file(f"a{suffix}", f"{text!r:.40} in a {suffix} file", data)
    yield from _craft_large_files()
    for encoding in ("utf-16", "utf-32", "utf-7", "latin-1", "utf-8-sig", "utf-16-be", "cp037"):
        text = "0: caf\u00e9\n1: na\u00efve"
        yield make_file("a.txt", encoding, text.encode(encoding))
        yield make_file("a.json", encoding, '["caf\u00e9", "na\u00efve"]'.encode(encoding))
    for name in ("a.\x1b[2J", "\n.txt", "\udcff.txt", "-", "a,b.txt", "a" * 200 + ".json"):
        yield make_file(name, f"the file name {name!r:.40}", b"\xff")
    yield from yield_special_files("a.txt")
    for suffix in _SUFFIXES[:5]:
        yield HostileFile(f"1 TiB{suffix}", make_sparse_writer(f"a{suffix}", 2**40))


def _craft_large_files() -> Iterator[HostileFile]:
    """Yield texts of megabytes: many entries, long entries, and deep nesting."""
    count = 1_500_000
    bodies: dict[str, Callable[[], str]] = {
        "many names.txt": lambda: "\n".join(map(str, range(count))),
        "many keys.txt": lambda: "\n".join(f"{i}: a" for i in range(999_000)),
        "many final keys.txt": lambda: "\n".join(f"a b c d {i}" for i in range(999_000)),
        "many lines.txt": lambda: "a\n" * 1_999_999,
        "many empty lines.txt": lambda: "a\n" + "\n" * 10_000_000,
        "spaces.txt": lambda: (" " * 1999 + "a\n") * 15_000,
        "digits.txt": lambda: ("1 " * 900 + "\n") * 15_000,
        "signs.txt": lambda: ("a" + ":=;|,->" * 280 + "\n") * 15_000,
        "quotes.txt": lambda: ('"' * 1900 + "\n") * 15_000,
        "one line.txt": lambda: "a" * (32 * 2**20),
        "many rows.csv": lambda: "\n".join(f"{i},a{i}" for i in range(999_000)),
        "many columns.csv": lambda: ("a," * 100_000 + "\n") * 100,
        "empty rows.csv": lambda: ",\n" * 1_900_000,
        "a long cell.csv": lambda: '0,"' + "a" * 2**24 + '"\n',
        "open quote.csv": lambda: '0,"' + "a\n" * 1_900_000,
        "empty lists.json": lambda: "[" + "[]," * (10 * 2**20) + "[]]",
        "empty dicts.json": lambda: "[" + "{}," * (10 * 2**20) + "{}]",
        "small dicts.json": lambda: "[" + '{"a":0},' * (4 * 2**20 - 2) + '{"a":0}]',
        "rows.json": lambda: "[" + '["a"],' * (5 * 2**20) + '["a"]]',
        "many keys.json": lambda: "{" + ",".join(f'"{i}":{i}' for i in range(1_600_000)) + "}",
        "numbers.json": lambda: "[" + "1," * (15 * 2**20) + "1]",
        "deep.json": lambda: "[" * 10**6 + "]" * 10**6,
        "deep dicts.json": lambda: '{"a":' * 10**6 + "1" + "}" * 10**6,
        "a long number.json": lambda: "[" + "9" * 10**7 + "]",
        "escapes.json": lambda: '["' + "\\u0061" * (5 * 2**20) + '"]',
        "keys in keys.json": lambda: '{"names":' * 900 + "1" + "}" * 900,
        "many maps.json": lambda: json.dumps({f"m{i}": {"names": ["a"] * 900} for i in range(900)}),
        "deep literal.txt": lambda: "{0: " * 100_000,
        "many literals.txt": lambda: "[" + "'a'," * 7_000_000 + "]",
        "literal lists.txt": lambda: "[" + "[1]," * 8_000_000 + "]",
        "comments.txt": lambda: "[" + "#\n" * 1_900_000 + "]",
        "escapes.txt": lambda: "['" + "\\x41" * 5_000_000 + "']",
        "strings.txt": lambda: "['a' " * 5_000_000,
        "list.yaml": lambda: "- a\n" * 260_000,
        "flow.yaml": lambda: "[" + "a, " * 340_000 + "]",
        "open flow.yaml": lambda: "[" * 1_000_000,
        "questions.yaml": lambda: "? " * 500_000,
        "dashes.yaml": lambda: "- " * 500_000,
        "plain.yaml": lambda: "a " * 500_000,
        "lines.yaml": lambda: "a\n\n" * 340_000,
        "quoted.yaml": lambda: '"' + "\\x41" * 250_000 + '"',
        "block.yaml": lambda: "names: |\n" + "  a\n" * 250_000,
        "tags.yaml": lambda: "%TAG !a! b\n" * 90_000 + "---\na\n",
        "comments.yaml": lambda: "#\n" * 500_000,
        "aliases.yaml": lambda: "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(99)),
        "keys.yaml": lambda: "\n".join(f"{i}: a" for i in range(90_000)),
    }
    for name, make_text in bodies.items():
        yield make_lazy_file(name, name, lambda make_text=make_text: make_text().encode())


LOADERS = (Loader("labels: file", load_labels, make_samples, craft, mutate=mutate),)
