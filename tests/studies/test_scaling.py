"""The study measures how cost grows with small networks, and fits exponents to its points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("matplotlib")

from tests.helpers.recorded_progress import RecordedProgress
from tests.helpers.records import DESK
from tinyvit.bench import machine
from tinyvit.bench.ray_cluster import require_ray
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.registry import open_runtime
from tinyvit.studies.figures import name_machine_kind
from tinyvit.studies.scaling import generated_pictures, processes
from tinyvit.studies.scaling.__main__ import PART_NAMES, USUAL_PARTS, main, measure
from tinyvit.studies.scaling.curves import (
    MEMORY,
    SECONDS,
    TIME,
    Curve,
    Part,
    extrapolate,
    fit_exponent,
    list_local_exponents,
)
from tinyvit.studies.scaling.generated_pictures import link_pictures, save_pictures
from tinyvit.studies.scaling.long_parts import LONG_PARTS
from tinyvit.studies.scaling.network_parts import list_size_steps, list_variant_steps
from tinyvit.studies.scaling.networks import Network
from tinyvit.studies.scaling.page import (
    HANDWRITTEN,
    ScalingRecord,
    draw_part,
    format_page,
    make_record,
    read_handwritten,
    read_parts,
)
from tinyvit.studies.scaling.picture_parts import describe_workers
from tinyvit.studies.scaling.plan import FULL, QUICK, Budget
from tinyvit.studies.scaling.processes import call_in_process
from tinyvit.variants import VARIANTS

PART = Part(
    "batch",
    "Images in a run",
    "images",
    (
        Curve("onnxruntime", TIME, ((1.0, 2.0), (2.0, 4.0), (4.0, 16.0))),
        Curve("openvino", TIME, ((2.0, 3.0), (4.0, 6.0))),
    ),
    ("noisy",),
    seconds=12.0,
    date="2026-01-01",
)


def test_the_exponent_of_a_power_is_found() -> None:
    points = [(x, 3 * x**1.5) for x in (1.0, 2.0, 8.0, 64.0)]
    assert fit_exponent(points) == pytest.approx(1.5)
    assert list_local_exponents(points) == pytest.approx([1.5] * 3)


def test_a_kink_is_visible_in_the_local_exponents() -> None:
    assert list_local_exponents([(1, 1), (2, 2), (4, 8)]) == pytest.approx([1, 2])


def test_without_two_positive_points_there_is_no_exponent() -> None:
    assert fit_exponent([]) is None
    assert fit_exponent([(1, 1), (1, 2)]) is None
    assert fit_exponent([(1, 1), (2, 0)]) is None


def test_a_line_is_continued_but_does_not_fall() -> None:
    assert extrapolate([(1, 0), (100, 10), (200, 15)], 400) == pytest.approx(25)
    assert extrapolate([(100, 10), (200, 9)], 400) == 9
    assert extrapolate([(100, 10)], 400) is None


def test_a_budget_ends() -> None:
    assert Budget(1000).allows(900)
    assert not Budget(1000).allows(1001)
    assert not Budget(-1).allows()


def test_the_full_plan_reaches_what_the_page_promises() -> None:
    assert (FULL.batches[0], FULL.batches[-1]) == (1, 64)
    assert (FULL.img_sizes[0], FULL.img_sizes[-1]) == (128, 1024)
    assert (FULL.classes[0], FULL.classes[-1]) == (10, 21841)
    assert FULL.workers == (1, 2, 4)
    assert FULL.calibration_counts[-1] == 10_000
    assert FULL.long_counts == (10_000, 100_000, 1_000_000)
    assert all(size % 32 == 0 for size in (*FULL.img_sizes, *FULL.scaled_sizes))
    assert len(list_variant_steps(FULL)) == 3
    sizes = [step.x or 0 for step in list_size_steps(FULL)]
    assert sizes == sorted(sizes)


def test_the_page_has_values_and_exponents() -> None:
    page = format_page(ScalingRecord(DESK, (PART,)), "x86-64-scaling", "../images", "")
    assert "Measured 2026-01-01, in 12 s." in page
    assert "![Images in a run](../images/x86-64-scaling-batch.svg)" in page
    assert "| images | 1 | 2 | 4 | exponent |" in page
    assert "| onnxruntime: time, ms | 2 | 4 (1.00) | 16 (2.00) | 1.50 |" in page
    assert "| openvino: time, ms |  | 3 | 6 (1.00) | 1.00 |" in page
    assert "- noisy\n" in page
    assert "nothing on this page is a result" not in page


def test_what_was_written_by_hand_is_kept() -> None:
    record = ScalingRecord(DESK, (PART,), is_quick=True)
    page = format_page(record, "a", ".", "\nThe kink at 4 is the cache.\n")
    assert "nothing on this page is a result" in page
    assert read_handwritten(page) == "\nThe kink at 4 is the cache.\n"
    assert read_handwritten("# a page without such a part") == ""
    assert format_page(record, "a", ".", "").endswith(f"{HANDWRITTEN}\n")


def test_parts_of_an_earlier_run_are_read_again() -> None:
    stored = json.loads(json.dumps(make_record(ScalingRecord(DESK, (PART,)))))
    assert "name" not in stored["device"]
    assert stored["parts"][0]["curves"][0]["exponent"] == pytest.approx(1.5)
    assert read_parts(stored, DESK, is_quick=False) == [PART]
    assert read_parts(stored, DESK, is_quick=True) == []
    assert read_parts(stored, replace(DESK, cpu="another"), is_quick=False) == []


def test_the_picture_has_a_panel_for_each_quantity() -> None:
    memory = Curve("onnxruntime", MEMORY, ((1.0, 30.0), (2.0, 40.0)))
    svg = draw_part(replace(PART, curves=(*PART.curves, memory)))
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    for label in (b"time, ms", b"memory, MiB", b"onnxruntime (1.50)"):
        assert label in svg
    assert svg == draw_part(replace(PART, curves=(*PART.curves, memory)))


def test_a_network_has_its_classes_and_any_batch(tmp_path: Path) -> None:
    network = Network(64, classes=11, has_dynamic_batch=True, depths=(1, 1, 1, 1))
    path, macs = network.save(tmp_path)
    with open_runtime(path, "onnxruntime") as runtime:
        assert runtime.outputs[0].shape[1] == 11
        assert not isinstance(runtime.inputs[0].shape[0], int)
    assert read_artifact(path).manifest is None
    assert 0 < macs < VARIANTS["tiny_vit_5m_224"].macs / 10
    assert network.save(tmp_path)[0] == path


def test_pictures_are_different_and_in_the_folders_of_classes(tmp_path: Path) -> None:
    from tinyvit.labels import Label

    labels = (Label("a", "n00000001"), Label("b", "n00000002"))
    folder = save_pictures(tmp_path, 5, labels)
    files = sorted(folder.rglob("*.jpg"))
    assert [file.parent.name for file in files] == ["n00000001"] * 3 + ["n00000002"] * 2
    assert len({file.read_bytes() for file in files}) == 5


def test_many_names_of_a_picture_are_shared_by_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinyvit.labels import Label

    monkeypatch.setattr(generated_pictures, "_LINKS_OF_A_FILE", 2)
    labels = (Label("a", "n00000001"), Label("b", "n00000002"))
    files = sorted(link_pictures(tmp_path, 7, labels).rglob("*.jpg"))
    assert [file.parent.name for file in files] == ["n00000001"] * 4 + ["n00000002"] * 3
    assert sorted(file.stat().st_nlink for file in files) == [1, 2, 2, 2, 2, 2, 2]


def test_the_efficiency_of_workers_is_computed() -> None:
    notes = describe_workers([(1, 12.0), (2, 6.25), (4, 6.25)], alone_s=10.0, pictures=1000)
    assert "Efficiency 83%" in notes[1]
    assert "Efficiency 80%" in notes[2]
    assert "Efficiency 40%" in notes[3]
    # 391 shards of 128 pictures on 100 machines: at most 4 x 128 of 10 ms, and 2 s of overhead.
    assert "Overhead of one worker: 2.0 ms for each picture" in notes[4]
    assert "would take 7 s, because a machine has up to 4 shards" in notes[4]


def test_a_process_without_an_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(processes, "_LIMIT_S", 0.2)
    with pytest.raises(ArtifactError, match="did not end within"):
        call_in_process(time.sleep, 60)


def test_runs_of_a_network_are_measured() -> None:
    plan = replace(QUICK, batches=(1, 2))
    (part,) = measure(plan, ["batch"], RecordedProgress())
    times = [curve for curve in part.curves if curve.quantity == TIME]
    assert times[0].name == "onnxruntime"
    assert [[x for x, _ in curve.points] for curve in times] == [[1, 2]] * len(times)
    assert all(y > 0 for curve in part.curves for _, y in curve.points)
    assert part.date


def test_what_the_time_does_not_allow_is_said() -> None:
    (part,) = measure(replace(QUICK, part_seconds=0), ["classes"], RecordedProgress())
    assert part.curves == ()
    assert [note.startswith("Not run, because of the limit of time") for note in part.notes][
        :2
    ] == [
        True,
        True,
    ]


def test_parts_with_very_many_pictures_run_only_when_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not set(LONG_PARTS) & set(USUAL_PARTS)
    assert set(PART_NAMES) == {*LONG_PARTS, *USUAL_PARTS}
    assert main(["--quick", "--part", *LONG_PARTS, "-o", str(tmp_path)]) == 0
    page = Path(capsys.readouterr().out.strip())
    parts = json.loads(page.with_suffix(".json").read_text())["parts"]
    assert [part["name"] for part in parts] == list(LONG_PARTS)
    for part in parts:
        for curve in part["curves"]:
            assert [x for x, _ in curve["points"]] == list(QUICK.long_counts)
        memory = {
            curve["name"]: dict(curve["points"])
            for curve in part["curves"]
            if curve["quantity"] == MEMORY
        }
        with_list = memory.get("one thread, with the list of pictures", {})
        assert set(with_list) == set(memory.get("one thread", {}))
        assert "Pictures of 32 x 32 pixels" in part["notes"][0]


def test_pictures_and_workers_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ("listing", "pictures", "ray")
    command = ["--quick", "--part", *parts, "-o", str(tmp_path / "results")]
    assert main(command) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.stem == f"{name_machine_kind(machine.read_device_info())}-scaling"
    listing, pictures, ray = json.loads(page.with_suffix(".json").read_text())["parts"]
    assert [x for x, _ in listing["curves"][0]["points"]] == list(QUICK.listing_counts)
    seconds = next(curve for curve in pictures["curves"] if curve["quantity"] == SECONDS)
    assert [x for x, _ in seconds["points"]] == list(QUICK.picture_counts)
    names = [curve["name"] for curve in pictures["curves"] if curve["quantity"] == MEMORY]
    assert names in ([], ["one thread", "one thread, with the list of pictures"])
    assert "1,000,000 pictures would take" in " ".join(pictures["notes"])
    assert "The part many-pictures measures the memory" in " ".join(pictures["notes"])
    assert (page.parent / f"{page.stem}-pictures.svg").exists()
    try:
        require_ray()
    except MissingDependencyError:
        assert ray["curves"] == []
        assert "ray" in ray["notes"][0]
    else:
        assert [x for x, _ in ray["curves"][0]["points"]] == list(QUICK.workers)
