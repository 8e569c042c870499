"""The programs in docs/tools import each other as scripts of one folder do."""

from __future__ import annotations

import sys

from tests.helpers.module_graph import ROOT

sys.path.append(str(ROOT / "docs" / "tools"))
