"""Export the demo model, classify a photograph, verify the artifact, and measure its latency."""

from pathlib import Path

from tinyvit import Classifier
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.measure import measure_latency
from tinyvit.runtimes.verify import verify

IMAGES = next(path for path in (Path("examples/images"), Path("../images")) if path.is_dir())

# Export: make one file from a checkpoint, with the class labels and the preprocessing inside.
if not Path("demo.onnx").exists():
    from tinyvit.export import ExportConfig, export  # Only the export needs torch.

    export(ExportConfig(model="demo", targets=("onnx",), output_path="demo.onnx"))

# Classify: `predict` takes a path, bytes, a Pillow image or an array. `!r` escapes hostile labels.
with Classifier("demo.onnx", top_k=3) as classifier:
    for prediction in classifier.predict(IMAGES / "coffee.jpg"):
        print(f"{prediction.score:6.1%}  {prediction.label!r}")

# Verify: compare the logits on this machine with those that the file was exported with.
result = verify("demo.onnx")
print("verified" if result.passed else result.reasons, f"to within {result.max_abs_diff:.1e}")

# Measure: time the network alone, one image at a time.
for latency in measure_latency(["demo.onnx"], LatencyConfig(runs=50, cold_starts=0)).latency:
    print(f"{latency.median_ms:.1f} ms in {latency.artifact.engine.engine}")
