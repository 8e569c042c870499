"""Benchmark records: the device, the date, and the results of each artifact (exported model file).

`tinyvit-bench latency --json`, `accuracy --json` and `sensitivity --json` print one record. The
subcommands `report` and `compare` read records. In a latency result, a baseline is another
implementation, such as timm's model in PyTorch, that was timed alternately with the artifact.
"""

from tinyvit.bench.record.accuracy import AccuracyResult, ClassAccuracy, ReferenceComparison
from tinyvit.bench.record.artifact_and_device import ArtifactInfo, DeviceInfo
from tinyvit.bench.record.latency import (
    BASELINES,
    BaselineResult,
    ColdStart,
    LatencyRatio,
    LatencyResult,
    OperatorTime,
    PeakRates,
    Scenario,
)
from tinyvit.bench.record.record import (
    PACKAGE_VERSION,
    Record,
    RecordKind,
    Scalar,
    current_time,
    read_record,
)
from tinyvit.bench.record.sensitivity import (
    NetworkSensitivity,
    SensitivityResult,
    UnitSensitivity,
)

__all__ = [
    "BASELINES",
    "PACKAGE_VERSION",
    "AccuracyResult",
    "ArtifactInfo",
    "BaselineResult",
    "ClassAccuracy",
    "ColdStart",
    "DeviceInfo",
    "LatencyRatio",
    "LatencyResult",
    "NetworkSensitivity",
    "OperatorTime",
    "PeakRates",
    "Record",
    "RecordKind",
    "ReferenceComparison",
    "Scalar",
    "Scenario",
    "SensitivityResult",
    "UnitSensitivity",
    "current_time",
    "read_record",
]
