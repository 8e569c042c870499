"""Base classes of targets.

A target is one kind of artifact (exported file). It lowers the traced network, which means that it
converts the network to its own form; the result is then saved as an artifact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tinyvit.errors import TinyViTError
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision, TensorSpec
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph
    from tinyvit.runtimes.artifact import Artifact
    from tinyvit.runtimes.base import Runtime

Feature = Precision | EmbeddedPreprocessing
"""What a target may leave unsupported: a precision, or a value of `embedded_preprocessing` (how
much of the preprocessing is part of the artifact)."""

ParityMethod = Literal["engine", "reference", "graph"]
"""How the logits of an artifact are computed to check them; see `Target.parity_method`."""


@dataclass(frozen=True)
class TargetOption:
    """An option that belongs to one target.

    Attributes:
        name: Name of the option in Python, such as "timing_cache".
        help: Help text of the command line.
        choices: Allowed values; None if any text is allowed.
        is_flag: Whether the option takes no value on the command line; its value is then "yes".
        names: For an option whose value is a list of names, separated by commas, and which several
            targets have: the names that this target knows.
        metavar: Word for the value in the help text, if any text is allowed.
    """

    name: str
    help: str
    choices: tuple[str, ...] | None = None
    is_flag: bool = False
    names: tuple[str, ...] = ()
    metavar: str = "VALUE"

    @property
    def flag(self) -> str:
        """Return the option as the command line spells it, such as "--timing-cache"."""
        return "--" + self.name.replace("_", "-")


class LoweredModel(ABC):
    """A network converted for one target, in memory, without a manifest."""

    @abstractmethod
    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the artifact with a manifest in it.

        An export saves one model several times, with manifests that differ only in the recorded
        measurements. The bytes of the network must be the same each time.

        Args:
            path: File (or folder, for a format that is a folder) to write.
            manifest: The manifest to store; its precision must be that of the lowered model.

        Returns:
            The files that were written, `path` itself last.
        """

    def add_to_manifest(self, manifest: Manifest) -> Manifest:
        """Add facts that are known only after lowering, such as which layers run in integers.

        Args:
            manifest: The manifest so far; it may already contain these facts.

        Returns:
            The extended manifest; most targets return it unchanged.
        """
        return manifest

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """Collect facts about the artifact that its user should know.

        Args:
            precision: The precision of the artifact.

        Returns:
            One plain sentence or clause per fact, for the printed summary; most targets have none.
        """
        return ()


class Target(ABC):
    """One kind of artifact and how to make it.

    Attributes:
        name: Name of the target, which is also the name of its folder.
        suffix: Suffix of its files, with the dot.
        extra: The extra of tinyvit-edge, as in `pip install tinyvit-edge[extra]`, that installs the
            target's tools.
        tools: Python packages that make the artifact; their versions go into the manifest.
        scheme: Which tensors are quantized for the target's engine, and in which form.
        engine_title: Name of the engine that runs its files, as its makers write it; needed only if
            `parity_method` is not "engine".
        aliases: Other names that `--target` accepts.
        unsupported: Precision or embedded preprocessing that the target does not offer -> a reason
            that completes "NAME artifacts are not made in int8: ...".
        batch_sizes: Possible numbers of images per call: "one"; "fixed", any number fixed at
            export; or "any", which includes a dynamic batch.
        layout: Layout of a float32 input of the artifact.
        parity_method: What computes the logits that are checked at export: "engine", the target's
            own engine; "reference", the evaluator called `reference_engine`; or "graph",
            onnxruntime with the ONNX model that the artifact is built from.
        reference_engine: Name of the engine for the parity method "reference".
        has_run_cost_limit: Whether this package refuses files of this target that need too much
            memory or time for one run; False for a target whose engine runs in the memory of a GPU.
        options: The options of tinyvit-export that only this target has.
    """

    name: str
    suffix: str
    extra: str
    tools: tuple[str, ...]
    scheme: QuantScheme
    engine_title: str = "the engine of the target"
    aliases: tuple[str, ...] = ()
    unsupported: Mapping[Feature, str] = MappingProxyType({})
    batch_sizes: Literal["one", "fixed", "any"] = "any"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    parity_method: ParityMethod = "engine"
    reference_engine: str | None = None
    has_run_cost_limit: bool = True
    options: tuple[TargetOption, ...] = ()

    @abstractmethod
    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> LoweredModel:
        """Convert the traced network to a model of this target.

        Args:
            graph: The traced network; for "int8" and "int8-weights", the quantized network.
            preprocess: The preprocessing that belongs to the network.
            embedded_preprocessing: How much of the preprocessing becomes part of the model.
            precision: Precision of the artifact; for "float16", `graph` is the float32 network.

        Returns:
            The model, ready to be saved.

        Raises:
            MissingDependencyError: A tool of the target is not installed; the error names `extra`.
            RequestError: The target does not offer what is requested.
        """

    def with_options(self, values: Mapping[str, str]) -> Target:
        """Return the target with its own options set.

        Args:
            values: Option name -> value, for the names in `options` only.

        Returns:
            A target with these options; targets without options return themselves.

        Raises:
            RequestError: A value is impossible.
        """
        return self

    def split(self) -> tuple[Target, ...]:
        """Return one target for each artifact that its options request.

        Returns:
            Several targets for an option that lists several devices, each with a suffix of its own;
            the target itself, as for most targets, if there is one artifact.
        """
        return (self,)

    def explain_machine(self) -> TinyViTError | None:
        """Explain why this machine cannot make artifacts of this target.

        Returns:
            The error to raise or to report; None, as for most targets, if any machine can.
        """
        return None

    def open_reference(self, artifact: Artifact) -> Runtime:
        """Open an artifact in the evaluator that computes its logits for the check at export.

        Only targets with the parity method "reference" use this.

        Args:
            artifact: A file in a staging folder, with its manifest.

        Returns:
            The opened artifact, by default in the engine called `reference_engine`.

        Raises:
            TinyViTError: The evaluator is missing, or does not accept the file.
        """
        from tinyvit.runtimes.registry import open_runtime

        return open_runtime(artifact, self.reference_engine)

    def make_parity_model(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> bytes:
        """Make the ONNX model that the artifact is built from.

        Only targets with the parity method "graph" implement this.

        Args:
            graph: See `lower`.
            preprocess: See `lower`.
            embedded_preprocessing: See `lower`.
            precision: See `lower`.

        Returns:
            A serialized ONNX model for onnxruntime.
        """
        raise NotImplementedError(f"{self.name} does not use the parity method 'graph'")


def adapt_input_to_target(spec: TensorSpec, target: Target) -> TensorSpec:
    """Convert the description of the network's input to the layout that a target takes.

    Args:
        spec: Description of the traced network's input.
        target: The target that the artifact is made for.

    Returns:
        The description with the target's layout; `spec` itself if it has that layout already, or
        if the input is not float32 (uint8 pixels are NHWC for every target).
    """
    if spec.layout == target.layout or spec.dtype != "float32":
        return spec
    images, channels, *sides = spec.shape
    return replace(spec, shape=(images, *sides, channels), layout=target.layout)
