"""Export the demo model, classify a photograph, prove the file right on this machine, time it."""

from pathlib import Path

from tinyvit import Classifier
from tinyvit.bench.latency.measure import LatencyConfig, measure_latency
from tinyvit.runtimes.verify import verify

PHOTO = next(
    found for up in ("examples", "..") if (found := Path(up, "images", "coffee.jpg")).exists()
)

# Export: a checkpoint in, one file with labels and preprocessing inside out.
if not Path("demo.onnx").exists():
    from tinyvit.export import ExportConfig, export

    export(ExportConfig(model="demo", targets=("onnx",), output="demo.onnx"))

# Classify: a path, bytes, a Pillow image or an array.
with Classifier("demo.onnx", top_k=3) as classifier:
    for best in classifier.predict(PHOTO):
        print(f"{best.score:6.1%}  {best.label}")

# Verify: does this machine compute what the exporter saw?
checked = verify("demo.onnx")
print("verified" if checked.passed else checked.reasons, f"to within {checked.max_abs_diff:.1e}")

# Measure: the network alone, one picture at a time.
for result in measure_latency(["demo.onnx"], LatencyConfig(runs=50, cold_starts=0)).latency:
    print(f"{result.median_ms:.1f} ms in {result.artifact.engine.engine}")
