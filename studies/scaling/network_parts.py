"""The parts of the study that vary the network and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tinyvit.errors import TinyViTError
from tinyvit.progress import Progress
from tinyvit.studies.scaling.curves import FILE_SIZE, MEMORY, TIME, Curve, Part, Point
from tinyvit.studies.scaling.networks import Network
from tinyvit.studies.scaling.plan import Budget, ScalingPlan
from tinyvit.studies.scaling.processes import Run, call_in_process, measure_run

ENGINES = ("onnxruntime", "openvino")
"""The engines, which both read the same ONNX files."""
_BATCHES_FOR_THREADS = (1, 8)
"""Numbers of images with which the numbers of threads are compared."""


@dataclass(frozen=True)
class Step:
    """One point of the curves of one name.

    Attributes:
        x: What was varied; None for the network's number of multiply-accumulates, in billions.
        network: The network.
        threads: Number of CPU threads.
        batch: Number of images in a run.
        suffix: Appended to the name of the engine, to name the curve.
    """

    x: float | None
    network: Network
    threads: int = 1
    batch: int = 1
    suffix: str = ""


def list_thread_steps(plan: ScalingPlan) -> list[Step]:
    """List the points of the part "threads"."""
    network = Network(plan.img_size, has_dynamic_batch=True, depths=plan.depths)
    return [
        Step(threads, network, threads, batch, f", batch {batch}")
        for batch in _BATCHES_FOR_THREADS
        for threads in plan.threads
    ]


def list_batch_steps(plan: ScalingPlan) -> list[Step]:
    """List the points of the part "batch"."""
    network = Network(plan.img_size, has_dynamic_batch=True, depths=plan.depths)
    return [Step(batch, network, batch=batch) for batch in plan.batches]


def list_size_steps(plan: ScalingPlan) -> list[Step]:
    """List the points of the part "size"."""
    fixed = [
        Step(
            size,
            Network(size, window_img_size=plan.img_size, depths=plan.depths),
            suffix=", windows of fixed size",
        )
        for size in plan.img_sizes
    ]
    scaled = [
        Step(size, Network(size, depths=plan.depths), suffix=", windows that grow")
        for size in plan.scaled_sizes
    ]
    return sorted([*fixed, *scaled], key=lambda step: step.x or 0)


def list_variant_steps(plan: ScalingPlan) -> list[Step]:
    """List the points of the part "variant"."""
    networks = [
        Network(plan.img_size, variant=variant, depths=plan.depths) for variant in plan.variants
    ]
    return [Step(None, network) for network in networks]


def list_class_steps(plan: ScalingPlan) -> list[Step]:
    """List the points of the part "classes"."""
    networks = [
        Network(plan.img_size, classes=classes, depths=plan.depths) for classes in plan.classes
    ]
    return [Step(network.classes, network) for network in networks]


@dataclass(frozen=True)
class NetworkPart:
    """A part that runs networks.

    Attributes:
        title: Heading of its section.
        x_label: What is varied, with its unit.
        list_steps: Function that lists the points, in ascending order.
    """

    title: str
    x_label: str
    list_steps: Callable[[ScalingPlan], list[Step]]

    def measure(self, name: str, plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
        """Measure all points that the time of the part allows.

        Args:
            name: Name of the part.
            plan: What is measured.
            folder: Folder for the files.
            progress: Receives messages.
        """
        engines = [engine for engine in ENGINES if find_spec(engine) is not None]
        collector = _Collector()
        budget = Budget(plan.part_seconds)
        for step in self.list_steps(plan):
            label = _describe(step)
            if not budget.allows():
                collector.notes.append(f"Not run, because of the limit of time: {label}.")
                continue
            progress.message(f"{name}: {label}")
            collector.measure(step, engines, folder, plan.run_seconds)
        curves = tuple(collector.list_curves())
        return Part(
            name, self.title, self.x_label, curves, tuple(collector.notes), budget.elapsed_s
        )


class _Collector:
    """Measures points, and collects them into curves.

    Attributes:
        notes: What could not be measured, one sentence each.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._points: dict[tuple[str, str], list[Point]] = {}

    def measure(self, step: Step, engines: Sequence[str], folder: Path, run_seconds: float) -> None:
        """Measure one point in each engine."""
        try:
            path, macs = step.network.save(folder)
        except TinyViTError as error:
            self.notes.append(f"Not measured: {_describe(step)} ({error}).")
            return
        x = step.x if step.x is not None else macs / 1e9
        self._add(f"ONNX file{step.suffix}", FILE_SIZE, (x, path.stat().st_size / 1e6))
        for engine in engines:
            try:
                run = Run(path, engine, step.threads, step.batch, run_seconds)
                cost = call_in_process(measure_run, run)
            except TinyViTError as error:
                self.notes.append(f"Not measured: {_describe(step)}, {engine} ({error}).")
                continue
            self._add(f"{engine}{step.suffix}", TIME, (x, cost.seconds * 1e3))
            if cost.grown_bytes is not None:
                self._add(f"{engine}{step.suffix}", MEMORY, (x, cost.grown_bytes / 2**20))

    def _add(self, name: str, quantity: str, point: Point) -> None:
        """Add a point, unless the curve has a point there."""
        points = self._points.setdefault((name, quantity), [])
        if all(point[0] != x for x, _ in points):
            points.append(point)

    def list_curves(self) -> Iterator[Curve]:
        """List the curves; the size of the file is left out if it is always the same."""
        for (name, quantity), points in self._points.items():
            if quantity == FILE_SIZE and len({y for _, y in points}) == 1:
                continue
            yield Curve(name, quantity, tuple(points))


def _describe(step: Step) -> str:
    network = step.network
    parts = (
        network.variant,
        f"{network.img_size} pixels",
        f"windows for {network.window_img_size or network.img_size} pixels",
        f"{network.classes} classes",
        f"batch {step.batch}",
        f"threads {step.threads}",
    )
    return ", ".join(parts)


NETWORK_PARTS = {
    "threads": NetworkPart("Threads", "CPU threads", list_thread_steps),
    "batch": NetworkPart("Images in a run", "images in a run", list_batch_steps),
    "size": NetworkPart("Size of the images", "side of the images, pixels", list_size_steps),
    "variant": NetworkPart(
        "Variant", "billion multiply-accumulates of an image", list_variant_steps
    ),
    "classes": NetworkPart("Number of classes", "classes", list_class_steps),
}
"""Name -> part."""
