// Classify a picture with OpenVINO's C++ API: classify_openvino demo.xml cat.jpg
#include <openvino/openvino.hpp>

#include "classify.h"

static std::string classify(const std::string& path, const Picture& picture) {
    ov::Core core;
    const auto model = core.read_model(path);
    if (!model->has_rt_info({"tinyvit", "manifest"})) {
        throw std::runtime_error(path + " has no manifest: make it with tinyvit-export --target openvino --preprocess full");
    }
    const Manifest manifest = read_manifest(model->get_rt_info<std::string>("tinyvit", "manifest"));

    // By itself OpenVINO computes in bf16 where the processor has it, and rounds what meets 8-bit weights: answers of another file.
    const auto precision = manifest.precision == "half" ? ov::element::f16 : ov::element::f32;
    auto compiled = core.compile_model(model, "CPU",
                                       ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                                       ov::hint::inference_precision(precision),
                                       ov::hint::dynamic_quantization_group_size(0));
    auto request = compiled.create_infer_request();
    const ov::Shape shape{1, picture.height, picture.width, 3};
    request.set_tensor(manifest.input, ov::Tensor(ov::element::u8, shape, const_cast<std::uint8_t*>(picture.pixels.data())));
    request.infer();
    const ov::Tensor logits = request.get_tensor(manifest.output);
    if (logits.get_size() != manifest.labels.size()) throw std::runtime_error(path + " has other classes than its manifest says");
    return best(logits.data<float>(), manifest);
}

int main(int argc, char** argv) { return run(argc, argv, classify); }
