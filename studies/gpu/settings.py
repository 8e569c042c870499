"""Defines the settings of the study: for the full measurement, and for a tiny one in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""Arithmetic of matrix products and convolutions. In "float32" and "tf32", all tensors are float32,
and "tf32" lets the GPU round the factors to 10 bits of mantissa. "bfloat16" is autocast with
float32 weights, as in training. In "float16", weights and activations are float16."""
Mode = Literal["eager", "compiled"]
"""Execution of a network: by PyTorch directly, or after torch.compile."""


@dataclass(frozen=True)
class StepCase:
    """A student whose training step is timed.

    Attributes:
        student: Name of the variant.
        precision: Arithmetic of the step.
        batch: Images per step.
        teachers: Teachers that predict in each step, as named in `teachers.BUILDERS`.
        num_classes: Number of classes.
        top_k: Number of classes in a record of the store.
        device: "cuda" or "cpu".
    """

    student: str
    precision: Precision
    batch: int = 256
    teachers: tuple[str, ...] = ()
    num_classes: int = 1000
    top_k: int = 10
    device: str = "cuda"


@dataclass(frozen=True)
class LatencyCase:
    """A network whose latency is measured.

    Attributes:
        variant: Name of the variant.
        mode: Eager or compiled.
        precision: Arithmetic.
        batch: Images per run.
    """

    variant: str
    mode: Mode
    precision: Precision
    batch: int


@dataclass(frozen=True)
class Settings:
    """The measurements of the study, and the time that each part may take.

    Attributes:
        device: "cuda" or "cpu".
        img_size: Side of the images in pixels for all networks; None for that of each variant.
        students: Variants whose losses are compared.
        teachers: Teachers for storing and training loops, as named in `teachers.BUILDERS`.
        loss_batch: Images per step in the comparison of losses.
        step_cases: Training steps to time, the most important first.
        step_timing_s: Seconds after which the timing of a training step begins no further round.
        image_count: Number of JPEG files, more than `store_batch`.
        loop_student: Variant that the training loops train.
        loop_batch: Images per step in training loops, and the larger of the two batch sizes with
            which the steps of storing are measured.
        loop_waves: Steps of a training loop for each process that loads images, at least 2.
        workers: Number of processes that load images; None for the number of cores minus one, or
            fewer if their batches would not fit into the shared memory.
        store_batch: Batch size of the teacher in `save-logits`.
        latency_cases: Latencies to measure, the most important first.
        latency_timing_s: Seconds after which a measurement of latency, or of a step of storing,
            begins no further round.
        max_rounds: Largest number of rounds in a measurement.
        compile_options: Arguments of torch.compile.
        compile_s: Estimate of the seconds that the first compilation takes.
        budgets_s: Name of each part -> seconds after which the part begins no measurement.
        total_s: Seconds after which no part begins a measurement.
    """

    device: str
    img_size: int | None
    students: tuple[str, ...]
    teachers: tuple[str, ...]
    loss_batch: int
    step_cases: tuple[StepCase, ...]
    step_timing_s: float
    image_count: int
    loop_student: str
    loop_batch: int
    loop_waves: int
    workers: int | None
    store_batch: int
    latency_cases: tuple[LatencyCase, ...]
    latency_timing_s: float
    max_rounds: int
    compile_options: dict[str, str]
    compile_s: float
    budgets_s: dict[str, float]
    total_s: float


_5M, _11M, _21M = "tiny_vit_5m_224", "tiny_vit_11m_224", "tiny_vit_21m_224"
_VARIANTS = (_5M, _21M, _11M, "tiny_vit_21m_384", "tiny_vit_21m_512")
_TEACHERS = ("tiny_vit_21m_224", "vit_large_patch14_clip_224")


PARTS = ("losses", "steps", "latency", "compiled", "storing", "loops")
"""Names of the parts, in the order of measurement."""


def _list_latency_cases() -> tuple[LatencyCase, ...]:
    """Return all cases, the most important first."""
    modes: tuple[Mode, ...] = ("eager", "compiled")
    precisions: tuple[Precision, ...] = ("float16", "tf32", "float32")
    return tuple(
        LatencyCase(variant, mode, precision, batch)
        for mode in modes
        for precision in precisions
        for variant in _VARIANTS
        for batch in (1, 64)
    )


def _list_step_cases() -> tuple[StepCase, ...]:
    """Return all cases, the most important first."""
    main_cases = [
        StepCase(student, "bfloat16", teachers=_TEACHERS) for student in (_5M, _21M, _11M)
    ]
    # The classes and K of the paper's stores for ImageNet-22k.
    imagenet_22k = StepCase(_5M, "bfloat16", teachers=_TEACHERS[:1], num_classes=21841, top_k=100)
    cpu_precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    cpu_cases = [StepCase(_5M, precision, batch=32, device="cpu") for precision in cpu_precisions]
    float32_precisions: tuple[Precision, ...] = ("tf32", "float32")
    float32_cases = [
        StepCase(student, precision) for student in (_5M, _21M) for precision in float32_precisions
    ]
    large_cases = [
        StepCase(student, "bfloat16", batch=batch)
        for student in (_5M, _21M, _11M)
        for batch in (512, 1024, 2048)
    ]
    return (*main_cases, imagenet_22k, *cpu_cases, *float32_cases, *large_cases)


def full_settings() -> Settings:
    """Return the settings of the full measurement, for one NVIDIA GPU with about 80 GB."""
    return Settings(
        device="cuda",
        img_size=None,
        students=(_5M, _11M, _21M),
        teachers=_TEACHERS,
        loss_batch=8,
        step_cases=_list_step_cases(),
        step_timing_s=3.0,
        image_count=256,
        loop_student=_5M,
        loop_batch=256,
        loop_waves=4,
        workers=None,
        store_batch=16,
        latency_cases=_list_latency_cases(),
        latency_timing_s=0.8,
        max_rounds=200,
        # CUDA graphs remove the launch overhead that dominates at batch 1. The alternative
        # max-autotune-no-cudagraphs keeps it, and compiles for minutes.
        compile_options={"mode": "reduce-overhead"},
        compile_s=45.0,
        budgets_s={
            "losses": 40.0,
            "steps": 115.0,
            "latency": 50.0,
            "compiled": 165.0,
            "storing": 50.0,
            "loops": 80.0,
        },
        total_s=450.0,
    )


def quick_settings(device: str) -> Settings:
    """Return the settings of a tiny run of every part, which checks that the script works.

    Args:
        device: "cuda" or "cpu".
    """
    teachers = ("tiny_vit_5m_64px",)
    return Settings(
        device=device,
        img_size=64,
        students=(_5M,),
        teachers=teachers,
        loss_batch=2,
        step_cases=(StepCase(_5M, "float32", batch=2, teachers=teachers, device=device),),
        step_timing_s=0.1,
        image_count=4,
        loop_student=_5M,
        loop_batch=2,
        loop_waves=2,
        workers=0,
        store_batch=2,
        latency_cases=(
            LatencyCase(_5M, "eager", "float32", batch=1),
            LatencyCase(_5M, "compiled", "float32", batch=2),
        ),
        latency_timing_s=0.1,
        max_rounds=3,
        # Generating code would take a minute, and this backend only traces the network.
        compile_options={"backend": "eager"},
        compile_s=0.0,
        budgets_s=dict.fromkeys(PARTS, 60.0),
        total_s=300.0,
    )
