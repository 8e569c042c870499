"""The search within the accuracy budget takes the right steps, on a network in name only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.bench.record import UnitSensitivity
from tinyvit.errors import RequestError
from tinyvit.export.int8 import budget_search
from tinyvit.export.int8.budget_search import search_within_budget
from tinyvit.export.int8.shared_measurements import SharedMeasurements
from tinyvit.metrics import PairedComparison
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme

UNITS = tuple("abcdefgh")
"""The units, the most harmful first; int8 does no harm to the last one."""
IMAGES = 100


class NamedWorkspace:
    """A workspace whose networks are recipes, and whose artifacts and outputs are recipes too."""

    def __init__(self) -> None:
        self.folded = "the float32 network"
        self.graph = SimpleNamespace(retrace=lambda network: network)
        self.target = SimpleNamespace(name="named", scheme=QuantScheme())
        self.artifacts: dict[str, Any] = {}

    def lower(self, graph: Any, precision: str) -> Any:
        return graph

    def save(self, lowered: Any, precision: str) -> Any:
        self.artifacts[precision] = lowered
        return lowered

    def locate_artifact(self, precision: str) -> Any:
        return self.artifacts[precision]

    def run(self, artifact: Any, make_batches: Any, report_images: Any) -> Any:
        report_images(IMAGES)
        return artifact


@pytest.fixture
def ranked_recipes(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes whose sensitivity was ranked; each unit in float32 adds one percent."""
    ranked: list[Recipe] = []

    def rank(network: Recipe, progress: Any) -> list[UnitSensitivity]:
        ranked.append(network)
        return [
            UnitSensitivity(
                unit,
                error=0.0 if unit == UNITS[-1] else 1.0,
                share=0.1,
                snr_db=20.0,
                cosine=1.0,
                macs=1,
            )
            for unit in UNITS
        ]

    def compare(int8: Recipe, float32: Any) -> PairedComparison:
        return PairedComparison(IMAGES, 90.0 + len(int8.float_units))

    for name, function in {
        "quantize_network": lambda folded, recipe, scheme: recipe,
        "quantized_units": lambda folded, recipe, scheme: set(UNITS) - set(recipe.float_units),
        "count_unit_macs": lambda folded: dict.fromkeys(UNITS, 10),
        "SimulatedNetwork": lambda folded, recipe, scheme, images: recipe,
        "rank_sensitivity": rank,
        "compare_outputs": compare,
    }.items():
        monkeypatch.setattr(budget_search, name, function)
    return ranked


def search(
    min_agreement: float, force: bool = False
) -> tuple[budget_search.QuantizedCandidate, NamedWorkspace]:
    config = QuantizationConfig(
        budget=AccuracyBudget(min_agreement=min_agreement), force=force, val_data=Path(".")
    )
    recipe = Recipe("checkpoint", 64, {"a:in": 1.0}, 7, (), "method", "images", 32)
    quantization: Any = SimpleNamespace(
        config=config,
        recipe=recipe,
        make_batches=None,
        count_images=lambda: IMAGES,
        make_sensitivity_images=lambda: None,
        is_measured=True,
    )
    workspace: Any = NamedWorkspace()
    candidate = search_within_budget(
        workspace, quantization, SharedMeasurements(), RecordedProgress()
    )
    return candidate, workspace


def test_the_recipe_is_kept_if_it_is_within_the_budget(ranked_recipes: list[Recipe]) -> None:
    candidate, _ = search(min_agreement=90)
    assert [trial.float_units for trial in candidate.outcome.trials] == [()]
    assert ranked_recipes == []


def test_one_then_two_then_four_units_return_to_float32(
    ranked_recipes: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_search, "MIN_INT8_SHARE", 0.0)
    monkeypatch.setattr(budget_search, "MIN_SHARE_GAIN", 0.5)
    candidate, workspace = search(min_agreement=94)
    assert [len(trial.float_units) for trial in candidate.outcome.trials] == [0, 1, 2, 4]
    assert [trial.int8_share for trial in candidate.outcome.trials] == [1.0, 0.875, 0.75, 0.5]
    assert candidate.outcome.recipe.float_units == UNITS[:4]
    assert candidate.outcome.comparison.agreement == 94
    assert workspace.artifacts["int8"].float_units == UNITS[:4]
    assert len(ranked_recipes) == 1


@pytest.mark.parametrize(
    ("needed_units", "tried_unit_counts"),
    [
        (2, [0, 1, 2]),
        (3, [0, 1, 2, 4, 3]),
        (4, [0, 1, 2, 3, 4]),  # 4 was tried before 3, and is the last one because it is used.
        (5, [0, 1, 2, 4, 8, 6, 5]),
        (6, [0, 1, 2, 4, 8, 5, 6]),
        (7, [0, 1, 2, 4, 6, 8]),
    ],
)
def test_numbers_between_the_last_two_are_tried(
    needed_units: int,
    tried_unit_counts: list[int],
    ranked_recipes: list[Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The eighth unit does no harm, so that 8 units are 7 units in float32."""
    monkeypatch.setattr(budget_search, "MIN_INT8_SHARE", 0.0)
    candidate, workspace = search(min_agreement=90 + needed_units)
    expected_counts = [min(count, 7) for count in tried_unit_counts]
    assert [len(trial.float_units) for trial in candidate.outcome.trials] == expected_counts
    assert candidate.outcome.recipe.float_units == UNITS[:needed_units]
    assert candidate.outcome.comparison.agreement == 90 + needed_units
    assert workspace.artifacts["int8"].float_units == UNITS[:needed_units]


def test_the_search_ends_at_the_smallest_share_of_int8(ranked_recipes: list[Recipe]) -> None:
    with pytest.raises(RequestError, match="misses its accuracy budget") as error:
        search(min_agreement=99)
    assert error.value.cause.count("units in float32") == 4
    assert "4 units in float32, 50% of the multiply-accumulates in int8" in error.value.cause


def test_the_search_ends_when_no_unit_is_harmful(
    ranked_recipes: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_search, "MIN_INT8_SHARE", 0.0)
    with pytest.raises(RequestError, match="7 units in float32, 12% of the multiply") as error:
        search(min_agreement=99)
    assert error.value.cause.count("units in float32") == 5


def test_force_keeps_the_recipe(ranked_recipes: list[Recipe]) -> None:
    candidate, _ = search(min_agreement=99, force=True)
    assert candidate.outcome.recipe.float_units == ()
    assert len(candidate.outcome.trials) == 1
