// Classify an image with the C++ API of OpenVINO:
//
//     classify_openvino demo.xml coffee.jpg
#include <openvino/openvino.hpp>
#include <stdexcept>

#include "classify.h"

namespace {

Classifier open_model(const std::string& model_path) {
    const std::string suffix = ".xml";
    if (model_path.size() < suffix.size() ||
        model_path.compare(model_path.size() - suffix.size(), suffix.size(), suffix) != 0) {
        throw std::runtime_error(
            model_path +
            " is not a file of OpenVINO (.xml): make one with tinyvit-export --target openvino"
            " --preprocess full");
    }
    ov::Core core;
    const auto model = core.read_model(model_path);
    if (!model->has_rt_info({"tinyvit", "manifest"})) {
        throw std::runtime_error(
            model_path +
            " has no manifest: make it with tinyvit-export --target openvino --preprocess full");
    }
    const Manifest manifest =
        parse_manifest(model->get_rt_info<std::string>("tinyvit", "manifest"));

    // By default, OpenVINO computes in bfloat16 on processors that have it, and rounds the
    // activations that meet 8-bit weights. Both would change the logits.
    const auto precision = manifest.precision == "float16" ? ov::element::f16 : ov::element::f32;
    auto compiled_model = core.compile_model(
        model, "CPU", ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
        ov::hint::inference_precision(precision), ov::hint::dynamic_quantization_group_size(0));
    const Classify classify = [manifest, model_path,
                               request = compiled_model.create_infer_request()](
                                  const Image& image) mutable {
        // The tensor uses the image's memory; OpenVINO does not write to an input.
        auto* pixels = const_cast<std::uint8_t*>(image.pixels.data());
        const ov::Shape shape{1, image.height, image.width, 3};
        request.set_tensor(manifest.input_name, ov::Tensor(ov::element::u8, shape, pixels));
        request.infer();
        const ov::Tensor logits = request.get_tensor(manifest.output_name);
        if (logits.get_size() != manifest.labels.size()) {
            throw std::runtime_error(model_path +
                                     " has another number of classes than its manifest");
        }
        return format_predictions(logits.data<float>(), manifest);
    };
    return {manifest.resized_side, classify};
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, open_model); }
