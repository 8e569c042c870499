"""The web page shows labels of strangers without characters that act instead of being shown."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT

SOURCE = Path(__file__).parents[2] / "examples" / "web" / "src"


def test_text_is_escaped_as_in_python(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node: apt-get install nodejs")
    shutil.copy(SOURCE / "text.js", tmp_path / "text.mjs")
    script = tmp_path / "escape.mjs"
    script.write_text(
        'import { escapeText } from "./text.mjs";\n'
        "process.stdout.write(escapeText(JSON.parse(process.argv[2])));\n"
    )
    command = ["node", script, json.dumps(f"caffè {HOSTILE_TEXT}")]
    output = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert output.startswith(
        r"caffè a\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}1m\u{d}\u{8}\u{7f}\u{0}\u{202e}"
    )
    assert output.endswith(r"{$\u{a}b")
    assert output.isprintable()


def test_the_page_escapes_labels_and_messages() -> None:
    source = (SOURCE / "main.js").read_text()
    assert "name.textContent = escapeText(label);" in source
    assert 'byId("status").textContent = escapeText(text);' in source
    assert "innerHTML" not in source
