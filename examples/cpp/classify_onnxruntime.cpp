// Classify an image with the C++ API of onnxruntime:
//
//     classify_onnxruntime demo.full.onnx coffee.jpg
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include "classify.h"

namespace {

Classifier open_model(const std::string& model_path) {
    static const Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "tinyvit");
    const auto session = std::make_shared<Ort::Session>(
        env, std::filesystem::path(model_path).c_str(), Ort::SessionOptions{});
    Ort::AllocatorWithDefaultOptions allocator;
    const auto manifest_json =
        session->GetModelMetadata().LookupCustomMetadataMapAllocated("tinyvit", allocator);
    if (!manifest_json) {
        throw std::runtime_error(model_path +
                                 " has no manifest: make it with tinyvit-export --preprocess full");
    }
    const Manifest manifest = parse_manifest(manifest_json.get());

    const Classify classify = [manifest, model_path, session](const Image& image) {
        const auto memory_info = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        const std::array<std::int64_t, 4> shape{1, static_cast<std::int64_t>(image.height),
                                                static_cast<std::int64_t>(image.width), 3};
        // The tensor uses the image's memory; onnxruntime does not write to an input.
        auto* pixels = const_cast<std::uint8_t*>(image.pixels.data());
        const auto input = Ort::Value::CreateTensor<std::uint8_t>(
            memory_info, pixels, image.pixels.size(), shape.data(), shape.size());
        const char* input_names[] = {manifest.input_name.c_str()};
        const char* output_names[] = {manifest.output_name.c_str()};
        const auto outputs =
            session->Run(Ort::RunOptions{nullptr}, input_names, &input, 1, output_names, 1);
        const Ort::Value& logits = outputs[0];
        if (logits.GetTensorTypeAndShapeInfo().GetElementCount() != manifest.labels.size()) {
            throw std::runtime_error(model_path +
                                     " has another number of classes than its manifest");
        }
        return format_predictions(logits.GetTensorData<float>(), manifest);
    };
    return {manifest.resized_side, classify};
}

}  // namespace

int main(int argc, char** argv) {
    // onnxruntime 1.29 and later report their use to Microsoft unless this variable is set before
    // the first Ort::Env is created. A value that the user has set is kept.
#ifdef _WIN32
    if (std::getenv("ORT_DISABLE_TELEMETRY") == nullptr) _putenv_s("ORT_DISABLE_TELEMETRY", "1");
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", /*overwrite=*/0);
#endif
    return run_program(argc, argv, open_model);
}
