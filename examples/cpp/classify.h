// The code that both programs share: it reads images and manifests, and formats predictions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// A decoded image: 8-bit RGB in the layout (height, width, 3).
struct Image {
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<std::uint8_t> pixels;
};

/// The entries of an artifact's manifest that the programs use.
struct Manifest {
    std::string precision;            ///< "float32", "float16" or "int8"
    std::string input_name;           ///< name of the input tensor
    std::string output_name;          ///< name of the output tensor, the logits
    std::vector<std::string> labels;  ///< class labels, in the order of the logits
    std::size_t resized_side;         ///< size in pixels to which the artifact resizes images
};

/// Decode an image file; apply its EXIF orientation, and blend transparency over white. A large
/// JPEG is decoded at a reduced size, but at least 2.25 times as large as `resized_side`, the size in
/// pixels to which the artifact resizes it.
/// Throws std::runtime_error if OpenCV cannot decode the file.
Image read_image(const std::string& path, std::size_t resized_side);

/// Parse the JSON text that tinyvit-export stored in the artifact.
/// Throws std::runtime_error if the text is no manifest, or if the artifact does not resize images.
Manifest parse_manifest(const std::string& json);

/// Format the most probable classes, one per line, such as " 96.10%  espresso".
/// `logits` has one entry per label of the manifest.
std::string format_predictions(const float* logits, const Manifest& manifest,
                               std::size_t top_k = 5);

/// Classifies an image, and returns the text to print.
using Classify = std::function<std::string(const Image& image)>;

/// An artifact that has been opened once, to classify any number of images.
struct Classifier {
    std::size_t resized_side;  ///< see Manifest
    Classify classify;
};

/// Opens an artifact.
using OpenModel = Classifier (*)(const std::string& model_path);

/// The main function of both programs, with the arguments MODEL and IMAGE. With a number of RUNS as
/// a third argument, the image is classified that often, and the median times are printed, too.
/// An error is one line. Returns the exit code: 0, 1 for an error, or 2 for wrong arguments.
int run_program(int argc, char** argv, OpenModel open_model);
