// Classify a picture with onnxruntime's C++ API: classify_onnxruntime demo.onnx cat.jpg
#include <onnxruntime_cxx_api.h>

#include <array>
#include <filesystem>
#include <stdexcept>

#include "classify.h"

static std::string classify(const std::string& path, const Picture& picture) {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "tinyvit");
    Ort::Session session(env, std::filesystem::path(path).c_str(), Ort::SessionOptions{});
    Ort::AllocatorWithDefaultOptions allocator;
    const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("tinyvit", allocator);
    if (!text) throw std::runtime_error(path + " has no manifest: make it with tinyvit-export --preprocess full");
    const Manifest manifest = read_manifest(text.get());

    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::array<std::int64_t, 4> shape{1, static_cast<std::int64_t>(picture.height), static_cast<std::int64_t>(picture.width), 3};
    auto* pixels = const_cast<std::uint8_t*>(picture.pixels.data());
    const auto input = Ort::Value::CreateTensor<std::uint8_t>(memory, pixels, picture.pixels.size(), shape.data(), shape.size());
    const char* inputs[] = {manifest.input.c_str()};
    const char* outputs[] = {manifest.output.c_str()};
    const auto answers = session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 1);
    if (answers[0].GetTensorTypeAndShapeInfo().GetElementCount() != manifest.labels.size()) {
        throw std::runtime_error(path + " has other classes than its manifest says");
    }
    return best(answers[0].GetTensorData<float>(), manifest);
}

int main(int argc, char** argv) { return run(argc, argv, classify); }
