"""Defines what the study measures: each change, the commits that made it, and its measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from tinyvit.bench.machine import count_cores
from tinyvit.studies.before_after import arguments
from tinyvit.studies.before_after.arguments import State
from tinyvit.studies.before_after.inputs import Inputs, Plan


@dataclass(frozen=True)
class Quantity:
    """A number that a measurement gives.

    Attributes:
        key: Its name in the output of the program.
        text: What it is, as the page says it.
        decimals: Number of decimals on the page.
    """

    key: str
    text: str
    decimals: int = 0


@dataclass(frozen=True)
class Row:
    """A change, and how it is measured.

    Attributes:
        name: Name for the option --rows.
        change: The change, in a few words; names of sizes of the plan are in braces.
        commits: The commits that made it. The state before it is the parent of the first, unless
            `before` names another.
        quantities: What is measured.
        program: File name of the measurement program.
        make_arguments: Makes the arguments of the program for a state, and the files for it. It
            raises TinyViTError if the row cannot be measured on this machine.
        threads: Number of threads of OpenMP.
        rounds: Usual number of runs of each state.
        before: The commit of the state before the change; empty for the parent of the first commit.
    """

    name: str
    change: str
    commits: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    program: str
    make_arguments: Callable[[Inputs, State], list[str]]
    threads: int = 1
    rounds: int = 5
    before: str = ""

    @property
    def earlier_commit(self) -> str:
        """The commit of the state before the change, as git understands it."""
        return self.before or f"{self.commits[0]}^"

    def describe(self, plan: Plan) -> str:
        """Return the change, with the sizes with which it is measured.

        Args:
            plan: The sizes.
        """
        return self.change.format_map(asdict(plan))


_RATIO = (Quantity("ratio", "`predict` / network alone, one thread", 2),)
_COSTS = (Quantity("seconds", "time, s", 1), Quantity("mib", "memory, MiB"))
_MEMORY = (Quantity("mib", "memory of all processes, MiB"),)
_REDUCED_DECODING = "83918b02a1b7f5fb3db21751061fb78ad97801da"
_BEFORE_BOUNDED_MEMORY = "5a61144ad08436a5192a6df5f2aae69fcb0ae90a"
"""The last state whose memory grew with the images of accuracy, and with those of a calibration."""

ROWS = (
    Row(
        "predict-large",
        "large JPEG files are decoded at a reduced size: 12 megapixels",
        (_REDUCED_DECODING,),
        _RATIO,
        "measure_predict.py",
        arguments.predict_large,
    ),
    Row(
        "predict-small",
        "one image is decoded in the caller's thread: 400 x 400",
        (_REDUCED_DECODING, "6b4b24dfccb0bf9460adcfcc7acabdecfa2b34f5"),
        _RATIO,
        "measure_predict.py",
        arguments.predict_small,
    ),
    Row(
        "predict-full",
        "large JPEG files are decoded at a reduced size, for artifacts that resize images: 12"
        " megapixels",
        ("2b5b31638401cd6def0da1786b2029d818f4bd4c",),
        _RATIO,
        "measure_predict.py",
        arguments.predict_full,
    ),
    Row(
        "cpp",
        "large JPEG files are decoded at a reduced size in the C++ programs: 12 megapixels",
        ("2b5b31638401cd6def0da1786b2029d818f4bd4c",),
        (
            Quantity("total_ms", "one prediction with onnxruntime, one core, ms", 1),
            Quantity("decoding_ms", "decoding alone, ms", 1),
        ),
        "measure_cpp.py",
        arguments.run_cpp,
    ),
    Row(
        "web-large",
        "large JPEG files are decoded at a reduced size in the web page: 12 megapixels",
        ("d1037bf76bf7171046bdb7c05a7bb126a7099342",),
        (
            Quantity("decoding_ms", "decoding, ms"),
            Quantity("network_ms", "resizing and network, int8, ms"),
        ),
        "measure_web.py",
        arguments.measure_page_large,
        rounds=3,
    ),
    Row(
        "web-first",
        "the web page runs a model once when it is loaded",
        ("816f4af6a4c696b68ae65722a05c143f1f458597",),
        (
            Quantity("first_image_ms", "first image of 400 x 400 after loading, float32, ms"),
            Quantity("first_prediction_s", "from opening the page to a first prediction, s", 2),
        ),
        "measure_web.py",
        arguments.measure_page_first,
        rounds=3,
    ),
    Row(
        "streams",
        "several batches at once: two streams instead of two threads",
        ("80ccc0f6c4aa9fc3ab862d96767745432880ff2d",),
        (Quantity("images_per_s", "JPEG files of 400 x 400 per second, onnxruntime"),),
        "measure_many.py",
        arguments.classify_many,
        threads=2,
    ),
    Row(
        "streams-openvino",
        "streams of OpenVINO are not bound to cores: two streams",
        ("0d0db3e1aac36091380198805c322dcce14fd7c6",),
        (Quantity("images_per_s", "JPEG files of 400 x 400 per second, OpenVINO"),),
        "measure_many.py",
        arguments.classify_many_in_openvino,
        threads=2,
    ),
    Row(
        "processes",
        "files of several targets are made in several processes: `--target all --int8`,"
        " {validation_pictures:,} validation pictures",
        ("de520916b90822ad9dd757e1c00fe33ad50937b6",),
        _COSTS,
        "measure_command.py",
        arguments.export_all,
        threads=count_cores(),
        rounds=1,
    ),
    Row(
        "export-all",
        "pictures are decoded once, float32 is predicted once, int8 is measured in streams, and"
        " files are made in several processes: `--target all --int8`, {validation_pictures:,}"
        " validation pictures",
        (
            _REDUCED_DECODING,
            "d21cc5c811aee8f4399f246dfb0480299a41f796",
            "112f3ceefae50f15615be6d58dc4ea7750736cbf",
            "de520916b90822ad9dd757e1c00fe33ad50937b6",
        ),
        _COSTS,
        "measure_command.py",
        arguments.export_all,
        threads=count_cores(),
        rounds=1,
    ),
    Row(
        "export-synthetic",
        "exports keep freed memory: `--int8` on synthetic images",
        ("22285716c96418da8c018eafa135caf49f964b8c",),
        (Quantity("seconds", "time, s", 1),),
        "measure_command.py",
        arguments.export_synthetic,
        threads=count_cores(),
        rounds=2,
    ),
    Row(
        "listing",
        "lists of images hold strings, and images of a class share its name: {names:,} images",
        (
            "77ae3a86b461be4dc4ff17eae928ad3d21aadb7f",
            "694d5aa8805ec19b89e68d95153b53ed00004381",
            "a46661be35fc559308a3cd3cbba3104b9c049296",
        ),
        (Quantity("seconds", "time, s", 1), Quantity("mib", "growth of the memory, MiB")),
        "measure_listing.py",
        arguments.list_names,
        rounds=3,
    ),
    Row(
        "accuracy",
        "predictions are kept in arrays: accuracy on {tiny_pictures:,} pictures",
        ("8acc546190730ce14ba02dea3915ea852699c19e",),
        _MEMORY,
        "measure_command.py",
        arguments.measure_accuracy,
        rounds=1,
        before=_BEFORE_BOUNDED_MEMORY,
    ),
    Row(
        "calibration",
        "calibration decodes images when it uses them, and keeps at most 512 MiB of them:"
        " {calibration_pictures:,} pictures",
        ("3bd5620cba75613afa18d90b40a35824ea82b6a1",),
        _MEMORY,
        "measure_command.py",
        arguments.calibrate,
        threads=count_cores(),
        rounds=1,
        before=_BEFORE_BOUNDED_MEMORY,
    ),
    Row(
        "large-images",
        "fewer images above 256 x 256 pixels pass through the network together: `--int8` at"
        " {large_img_size} pixels, 32 pictures",
        ("25d74c93392a4d4ffd36cf122706bf9c2b962cd9",),
        _COSTS,
        "measure_command.py",
        arguments.calibrate_large_images,
        threads=count_cores(),
        rounds=1,
    ),
)
"""The rows of the table, in order."""
