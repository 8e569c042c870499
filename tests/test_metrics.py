"""Metrics agree with published values, values computed by hand, scipy and statsmodels."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from tinyvit import metrics
from tinyvit.errors import RequestError
from tinyvit.metrics import (
    FLOAT32_NETWORK,
    AccuracyCounter,
    ClassAccuracy,
    Flips,
    PairedComparison,
    accuracy_per_class,
    agreement,
    compare_classes,
    compare_logits,
    count_flips,
    expected_calibration_error,
    gain_interval,
    mcnemar_p_value,
    paired_difference_interval,
    rank_classes,
    top_k_correct,
    wilson_interval,
)

COUNTS = [(81, 263), (15, 148), (0, 20), (1, 29), (20, 20), (1, 1), (42_600, 50_000)]
FLIPS = [(5, 0), (3, 1), (1, 3), (4, 4), (9, 8), (17, 31), (70, 50), (700, 500)]


def one_hot(classes: list[int], count: int = 4) -> npt.NDArray[np.float32]:
    """Logits (n, count) whose best class is the given one."""
    return np.eye(count, dtype=np.float32)[classes]


def correctness(seed: int, images: int, share: float) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(seed).random(images) < share


class TestRankClasses:
    def test_best_first_and_lower_index_first_among_equals(self) -> None:
        logits = np.array([[0, 2, 1, 2], [5, 5, 5, 5], [-1, -3, -2, -3]], np.float32)
        ranked = rank_classes(logits, 3)
        assert ranked.dtype == np.int64
        assert ranked.tolist() == [[1, 3, 2], [0, 1, 2], [0, 2, 1]]

    def test_all_classes_where_k_exceeds_them(self) -> None:
        assert rank_classes(np.array([[0.0, 1.0]]), 5).tolist() == [[1, 0]]

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint8])
    def test_first_column_is_argmax_and_columns_never_increase(self, dtype: type) -> None:
        logits = np.random.default_rng(0).integers(0, 256, (200, 50)).astype(np.uint8)
        logits = logits.view(np.int8) if dtype == np.int8 else logits.astype(dtype)
        ranked = rank_classes(logits, 50)
        assert (ranked[:, 0] == logits.argmax(1)).all()
        assert (np.sort(ranked, 1) == np.arange(50)).all()
        values = np.take_along_axis(logits, ranked, 1).astype(np.float64)
        steps = np.diff(values, axis=1)
        assert (steps <= 0).all()
        assert (np.diff(ranked, axis=1)[steps == 0] > 0).all()

    def test_negation_would_overflow_for_the_smallest_integer(self) -> None:
        assert rank_classes(np.array([[-128, 0, 127]], np.int8), 3).tolist() == [[2, 1, 0]]

    def test_nan_ranks_first_as_in_argmax(self) -> None:
        logits = np.array([[1, np.nan, 3], [np.inf, -np.inf, np.nan]], np.float32)
        assert rank_classes(logits, 3).tolist() == [[1, 2, 0], [2, 0, 1]]
        assert (rank_classes(logits, 1)[:, 0] == logits.argmax(1)).all()

    def test_k_below_one_is_refused(self) -> None:
        with pytest.raises(RequestError, match="k=0 ranks no class: give a whole number from 1"):
            rank_classes(np.zeros((1, 2)), 0)


class TestTopKCorrect:
    RANKED = np.array([[1, 0, 2], [2, 1, 0], [0, 2, 1]])

    @pytest.mark.parametrize(
        ("k", "expected"),
        [(1, [True, False, False]), (2, [True, True, False]), (3, [True] * 3), (9, [True] * 3)],
    )
    def test_single_class(self, k: int, expected: list[bool]) -> None:
        correct = top_k_correct(self.RANKED, np.array([1, 1, 1]), k)
        assert correct.dtype == np.bool_
        assert correct.tolist() == expected
        assert top_k_correct(self.RANKED, [(1,), (1,), (1,)], k).tolist() == expected

    def test_any_acceptable_class_counts(self) -> None:
        assert top_k_correct(self.RANKED, [(0, 1), (0,), ()], 1).tolist() == [True, False, False]
        assert top_k_correct(self.RANKED, [(9,), (1, 9), ()], 2).tolist() == [False, True, False]

    def test_invalid_inputs_are_refused(self) -> None:
        with pytest.raises(RequestError, match="k=0 counts no class"):
            top_k_correct(self.RANKED, np.array([1, 1, 1]), 0)
        with pytest.raises(RequestError, match="the inputs describe 3 and 1 images"):
            top_k_correct(self.RANKED, np.array([1]), 1)


class TestAccuracyCounter:
    def test_batches_add_up(self) -> None:
        rng = np.random.default_rng(0)
        logits, truths = rng.normal(size=(97, 10)).astype(np.float32), rng.integers(0, 10, 97)
        by_logits, by_rank = AccuracyCounter(), AccuracyCounter()
        for start in range(0, 97, 32):
            part = slice(start, start + 32)
            by_logits.update(logits[part], truths[part])
            by_rank.update(rank_classes(logits[part], 7), [(t,) for t in truths[part].tolist()])
        better = (logits > logits[np.arange(97), truths][:, None]).sum(1)
        for counter in (by_logits, by_rank):
            assert counter.image_count == 97
            assert counter.top1 == 100 * int((better < 1).sum()) / 97
            assert counter.top5 == 100 * int((better < 5).sum()) / 97

    def test_fewer_than_five_classes(self) -> None:
        counter = AccuracyCounter()
        counter.update(one_hot([0, 1, 1, 1]), np.array([0, 1, 2, 3]))
        assert (counter.image_count, counter.top1, counter.top5) == (4, 50, 100)

    def test_no_images_have_no_accuracy(self) -> None:
        counter = AccuracyCounter()
        counter.update(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        assert counter.image_count == 0
        for name in ("top1", "top5"):
            with pytest.raises(RequestError, match="there are no images to evaluate"):
                getattr(counter, name)


class TestPairedComparison:
    def test_flips_are_counted_both_ways(self) -> None:
        truths = np.array([0, 1, 2, 2])
        found = compare_logits(one_hot([0, 1, 2, 3]), one_hot([0, 1, 3, 2]), truths)
        assert (found.top1, found.reference_top1, found.drop) == (75, 75, 0)
        assert (found.worse, found.better, found.agreement) == (1, 1, 50)
        assert found.interval == pytest.approx((-60.410424, 60.410424), abs=1e-6)

    def test_without_classes(self) -> None:
        found = compare_logits(one_hot([0, 1, 2, 3]), one_hot([0, 1, 2, 2]), None)
        assert (found.agreement, found.drop, found.top1) == (75, None, None)
        assert found.describe("the other one") == (
            "75.0% of 4 images get the same class as the other one (95%: from 30.1 to 95.4)"
        )

    def test_text_with_classes(self) -> None:
        comparison = PairedComparison(1000, 50, top1=84.7, reference_top1=85.2, worse=5)
        assert comparison.describe(FLOAT32_NETWORK) == (
            "top-1 is 84.7%, and 85.2% for the float32 network: a drop of 0.5 points "
            "(95%: from 0.1 to 1.2; 5 images worse, 0 better); "
            "50.0% of 1000 images get the same class as the float32 network"
        )
        gain = PairedComparison(1000, 50, top1=86, reference_top1=85.2, better=8)
        text = gain.describe(FLOAT32_NETWORK)
        assert "a gain of 0.8 points (95%: from 0.4 to 1.6; 0 images worse, 8 better)" in text

    def test_classes_and_logits_give_the_same_comparison(self) -> None:
        first, second, truths = np.random.default_rng(0).integers(0, 4, (3, 50))
        expected = compare_classes(first, second, truths)
        logits = one_hot(first.tolist()), one_hot(second.tolist())
        assert compare_logits(*logits, truths) == expected
        assert compare_logits(*logits, [(t,) for t in truths.tolist()]) == expected
        assert expected.drop == pytest.approx(100 * (expected.worse - expected.better) / 50)

    def test_no_flips_still_leave_a_doubt(self) -> None:
        comparison = PairedComparison(60, 100, top1=90, reference_top1=90)
        assert comparison.interval == pytest.approx((-6.017185, 6.017185), abs=1e-6)
        text = comparison.describe(FLOAT32_NETWORK)
        assert "a drop of 0.0 points (95%: from -6.0 to 6.0; 0 images worse" in text
        without_classes = PairedComparison(32, 100)
        assert without_classes.describe(FLOAT32_NETWORK) == (
            "100.0% of 32 images get the same class as the float32 network"
            " (95%: from 89.3 to 100.0)"
        )

    @pytest.mark.parametrize(("same", "images"), [(3, 4), (985, 1000), (0, 7), (7, 7)])
    def test_interval_of_the_agreement_is_that_of_wilson(self, same: int, images: int) -> None:
        comparison = PairedComparison(images, 100 * same / images)
        low, high = proportion_confint(same, images, method="wilson")
        assert comparison.interval == pytest.approx((100 * low, 100 * high), abs=1e-10)

    def test_invalid_inputs_are_refused(self) -> None:
        with pytest.raises(RequestError, match="the inputs describe 1 and 2 images"):
            compare_logits(one_hot([0]), one_hot([0, 1]), None)
        with pytest.raises(RequestError, match="there are no images to evaluate"):
            compare_logits(np.zeros((0, 4)), np.zeros((0, 4)), None)


def test_agreement() -> None:
    assert agreement(np.array([0, 1, 2, 3]), np.array([0, 1, 2, 2])) == 75
    with pytest.raises(RequestError, match="the inputs describe 2 and 1 images"):
        agreement(np.array([0, 1]), np.array([0]))


def test_count_flips() -> None:
    correct, reference = np.array([True, False, False, True]), np.array([True, True, True, False])
    assert count_flips(correct, reference) == Flips(worse=2, better=1)
    assert count_flips(reference, correct) == Flips(worse=1, better=2)
    with pytest.raises(RequestError, match="the inputs describe 4 and 1 images"):
        count_flips(correct, np.array([True]))


def test_accuracy_per_class() -> None:
    classes = np.array([7, 2, 7, 2, 7])
    correct = np.array([True, False, False, True, False])
    reference = np.array([True, True, True, True, False])
    assert accuracy_per_class(correct, classes) == (
        ClassAccuracy(2, 2, 50.0),
        ClassAccuracy(7, 3, 100 / 3),
    )
    assert accuracy_per_class(correct, classes, reference) == (
        ClassAccuracy(2, 2, 50.0, 100.0),
        ClassAccuracy(7, 3, 100 / 3, 200 / 3),
    )
    assert accuracy_per_class(correct[:0], classes[:0]) == ()
    with pytest.raises(RequestError, match="the inputs describe 5 and 4 images"):
        accuracy_per_class(correct, classes, reference[:4])


class TestWilsonInterval:
    def test_published_values(self) -> None:
        # Newcombe, Statistics in Medicine 17 (1998), pages 857 to 872, table I, method 3.
        for counts, limits in {
            (81, 263): (25.53, 36.62),
            (15, 148): (6.24, 16.05),
            (0, 20): (0.0, 16.11),
            (1, 29): (0.61, 17.18),
        }.items():
            assert wilson_interval(*counts) == pytest.approx(limits, abs=0.006)
        assert wilson_interval(20, 20)[1] == 100

    @pytest.mark.parametrize(("correct", "count"), COUNTS)
    def test_scipy_and_statsmodels(self, correct: int, count: int) -> None:
        found = wilson_interval(correct, count)
        expected = stats.binomtest(correct, count).proportion_ci(method="wilson")
        assert found == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-10)
        low, high = proportion_confint(correct, count, method="wilson")
        assert found == pytest.approx((100 * low, 100 * high), abs=1e-10)

    def test_no_images_are_refused(self) -> None:
        with pytest.raises(RequestError, match="there are no images to evaluate"):
            wilson_interval(0, 0)


def score_statistic(loss: float, worse: int, better: int, count: int) -> float:
    """Tango's statistic, with the most likely probabilities found by a numeric search."""
    found = optimize.minimize_scalar(
        lambda gain: (
            -(
                worse * np.log(gain + loss)
                + better * np.log(gain)
                + (count - worse - better) * np.log(1 - 2 * gain - loss)
            )
        ),
        bounds=(max(0.0, -loss) + 1e-12, (1 - loss) / 2 - 1e-12),
        method="bounded",
        options={"xatol": 1e-13},
    )
    variance = count * (2 * found.x + loss * (1 - loss))
    return float((worse - better - count * loss) / np.sqrt(variance))


class TestPairedDifferenceInterval:
    @pytest.mark.parametrize(
        ("flips", "limits"),
        [
            ((12, 2, 50), (6.111, 34.471)),
            ((0, 1, 44), (-11.808, 5.939)),
            ((5, 0, 1000), (0.115, 1.165)),
            ((4, 0, 4), (2.022, 100.0)),
            ((0, 4, 4), (-100.0, -2.022)),
        ],
    )
    def test_values(self, flips: tuple[int, int, int], limits: tuple[float, float]) -> None:
        assert paired_difference_interval(*flips) == pytest.approx(limits, abs=6e-4)

    @pytest.mark.parametrize("count", [1, 32, 60, 50_000])
    def test_without_flips_the_ends_are_those_of_wilson(self, count: int) -> None:
        _, high = proportion_confint(0, count, method="wilson")
        expected = (-100 * high, 100 * high)
        assert paired_difference_interval(0, 0, count) == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize(("worse", "better", "count"), [(12, 2, 50), (3, 5, 60), (9, 1, 1000)])
    def test_the_score_at_both_ends_is_the_quantile(
        self, worse: int, better: int, count: int
    ) -> None:
        low, high = paired_difference_interval(worse, better, count)
        scores = [score_statistic(end / 100, worse, better, count) for end in (low, high)]
        quantile = stats.norm.ppf(0.975)
        assert scores == pytest.approx([quantile, -quantile], abs=1e-4)

    def test_no_images_are_refused(self) -> None:
        with pytest.raises(RequestError, match="there are no images to evaluate"):
            paired_difference_interval(0, 0, 0)


class TestMcnemarPValue:
    def test_values_by_hand(self) -> None:
        assert mcnemar_p_value(0, 0) == 1
        assert mcnemar_p_value(5, 0) == pytest.approx(2 / 2**5)
        assert mcnemar_p_value(3, 1) == mcnemar_p_value(1, 3) == pytest.approx(2 * 5 / 16)
        assert mcnemar_p_value(4, 4) == 1
        assert 0 < mcnemar_p_value(700, 500) < 1e-7

    @pytest.mark.parametrize(("worse", "better"), FLIPS)
    def test_scipy_and_statsmodels(self, worse: int, better: int) -> None:
        found = mcnemar_p_value(worse, better)
        assert found == pytest.approx(stats.binomtest(worse, worse + better).pvalue, rel=1e-9)
        exact = mcnemar([[100, better], [worse, 100]], exact=True)
        assert found == pytest.approx(exact.pvalue, rel=1e-9)


class TestExpectedCalibrationError:
    def test_values_by_hand(self) -> None:
        error = expected_calibration_error
        three_of_four = np.array([True, True, True, False])
        assert error(np.array([0.75] * 4), three_of_four) == pytest.approx(0)
        half = np.array([True, True, False, False])
        assert error(np.array([1.0, 1.0, 0.5, 0.5]), half) == pytest.approx(25)

    @pytest.mark.parametrize("bins", [1, 10, 15])
    def test_mean_gap_of_the_bins_weighted_by_images(self, bins: int) -> None:
        scores, correct = np.random.default_rng(0).random(400), correctness(1, 400, 0.6)
        edges = np.linspace(0, 1, bins + 1)
        shares, confidences, counts = (
            stats.binned_statistic(scores, values, statistic, edges).statistic
            for values, statistic in ((correct, "mean"), (scores, "mean"), (scores, "count"))
        )
        expected = 100 * np.average(np.abs(shares - confidences), weights=counts)
        assert expected_calibration_error(scores, correct, bins) == pytest.approx(expected)

    def test_default_is_15_bins(self) -> None:
        scores, correct = np.random.default_rng(0).random(400), correctness(1, 400, 0.6)
        expected = expected_calibration_error(scores, correct, 15)
        assert expected_calibration_error(scores, correct) == expected

    def test_no_images_are_refused(self) -> None:
        with pytest.raises(RequestError, match="there are no images to evaluate"):
            expected_calibration_error(np.zeros(0), np.zeros(0, np.bool_))


class TestPairedGainInterval:
    def test_published_values(self) -> None:
        # Newcombe, Statistics in Medicine 17 (1998), pages 873 to 890, table II, method 10.
        found = gain_interval(100 * 56 / 70, 70, 100 * 48 / 80, 80)
        assert found == pytest.approx((5.24, 33.39), abs=0.006)
        found = gain_interval(90, 10, 30, 10)
        assert found == pytest.approx((17.05, 80.90), abs=0.006)

    @pytest.mark.parametrize(("new", "old"), list(product(COUNTS[:4], COUNTS[4:])))
    def test_statsmodels(self, new: tuple[int, int], old: tuple[int, int]) -> None:
        shares = [100 * correct / count for correct, count in (new, old)]
        found = gain_interval(shares[0], new[1], shares[1], old[1])
        low, high = confint_proportions_2indep(*new, *old, method="newcomb", compare="diff")
        assert found == pytest.approx((100 * low, 100 * high), abs=1e-9)

    @pytest.mark.parametrize(
        ("before", "after", "count", "is_significant_drop"),
        [
            (42_600, 42_000, 50_000, True),  # 1.2 points
            (42_600, 42_400, 50_000, False),  # 0.4 points
            (852, 840, 1000, False),  # 1.2 points of few images can be chance
            (840, 852, 1000, False),
        ],
    )
    def test_significance_of_a_drop(
        self, before: int, after: int, count: int, is_significant_drop: bool
    ) -> None:
        _, high = gain_interval(100 * after / count, count, 100 * before / count, count)
        assert (high < 0) == is_significant_drop


def test_metrics_need_numpy_only() -> None:
    for file in Path(metrics.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        imported = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        imported |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
        packages = {name.split(".")[0] for name in imported}
        standard = {"__future__", "collections", "dataclasses", "math", "typing"}
        assert packages <= standard | {"numpy", "tinyvit"}
