#include "classify.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>
#include <utility>

namespace {

/// Blend an image with transparency over white, as the Python package does. IMREAD_COLOR only drops
/// the transparency, so the hidden colors of transparent pixels would change the prediction.
void blend_over_white(const cv::Mat& bgra, cv::Mat& bgr) {
    bgr.create(bgra.size(), CV_8UC3);
    for (int y = 0; y < bgra.rows; ++y) {
        for (int x = 0; x < bgra.cols; ++x) {
            const auto& source = bgra.at<cv::Vec4b>(y, x);
            auto& blended = bgr.at<cv::Vec3b>(y, x);
            for (int channel = 0; channel < 3; ++channel) {
                const double value = 255 - source[3] * (255 - source[channel]) / 255.0;
                blended[channel] = cv::saturate_cast<std::uint8_t>(value);
            }
        }
    }
}

/// Return whether a file begins like a JPEG.
bool is_jpeg(const std::string& path) {
    return std::ifstream(path, std::ios::binary).get() == 0xFF;
}

/// Read the height and width of a JPEG in pixels; 0 and 0 if the file has no frame header.
/// Source: ITU-T T.81, Annex B (a JPEG is a sequence of segments, each with a marker and a length).
std::array<std::size_t, 2> read_jpeg_size(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const auto read_16_bits = [&file] {
        const int high = file.get();
        return static_cast<std::size_t>(high << 8 | file.get());
    };
    constexpr int start_of_scan = 0xDA;
    file.ignore(2);  // the marker of the start of the image, which has no length
    while (file.get() == 0xFF) {
        int marker = file.get();
        while (marker == 0xFF) marker = file.get();  // padding
        const std::size_t length = read_16_bits();
        const bool is_table = marker == 0xC4 || marker == 0xC8 || marker == 0xCC;
        if (marker >= 0xC0 && marker <= 0xCF && !is_table) {  // a frame header
            file.ignore(1);  // the number of bits of a sample
            const std::size_t height = read_16_bits();
            const std::size_t width = read_16_bits();
            if (file) return {height, width};
        }
        if (!file || marker == start_of_scan || length < 2) break;
        file.ignore(static_cast<std::streamsize>(length - 2));
    }
    return {0, 0};
}

/// Choose at which size OpenCV decodes an image. libjpeg decodes a large JPEG several times as fast
/// at a half, a quarter or an eighth of its size. As in Python (tinyvit/images/reduced_size.py), the
/// image stays at least 2.25 times as large as it is resized afterwards, so that the result hardly
/// depends on it, and its sides are multiples of the reduction.
cv::ImreadModes choose_mode(const std::string& path, std::size_t resized_side) {
    constexpr std::array<std::pair<std::size_t, cv::ImreadModes>, 3> reductions{
        {{8, cv::IMREAD_REDUCED_COLOR_8},
         {4, cv::IMREAD_REDUCED_COLOR_4},
         {2, cv::IMREAD_REDUCED_COLOR_2}}};
    constexpr double min_ratio = 2.25;
    if (!is_jpeg(path)) return cv::IMREAD_COLOR;
    const auto [height, width] = read_jpeg_size(path);
    const double smallest = min_ratio * static_cast<double>(resized_side);
    for (const auto& [scale, mode] : reductions) {
        const bool divides = height % scale == 0 && width % scale == 0;
        if (divides && static_cast<double>(std::min(height, width) / scale) >= smallest) return mode;
    }
    return cv::IMREAD_COLOR;
}

/// Return the larger number of a manifest's `resize`, which is one number or height and width.
std::size_t read_resized_side(const nlohmann::json& resize) {
    if (!resize.is_array()) return resize;
    return std::max(resize.at(0).get<std::size_t>(), resize.at(1).get<std::size_t>());
}

/// Replace control characters (C0, DEL and C1) and marks of bidirectional text in UTF-8 by "?". A
/// hostile file could otherwise send commands to the terminal, or imitate another message.
std::string make_printable(const std::string& text) {
    std::string printable;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = [&](std::size_t offset) {
            return i + offset < text.size() ? static_cast<unsigned char>(text[i + offset]) : 0;
        };
        const bool is_c1 = byte(0) == 0xC2 && byte(1) >= 0x80 && byte(1) <= 0x9F;
        // U+200B to U+200F and U+2028 to U+202E; U+2060 to U+206F.
        const bool is_mark =
            byte(0) == 0xE2 &&
            ((byte(1) == 0x80 && ((byte(2) >= 0x8B && byte(2) <= 0x8F) ||
                                  (byte(2) >= 0xA8 && byte(2) <= 0xAE))) ||
             (byte(1) == 0x81 && byte(2) >= 0xA0 && byte(2) <= 0xAF));
        if (byte(0) < 0x20 || byte(0) == 0x7F || is_c1 || is_mark) {
            printable += '?';
            i += is_c1 ? 1 : is_mark ? 2 : 0;
        } else {
            printable += text[i];
        }
    }
    return printable;
}

/// Return the median of durations.
double find_median(std::vector<double> durations) {
    const auto middle = durations.begin() + static_cast<std::ptrdiff_t>(durations.size() / 2);
    std::nth_element(durations.begin(), middle, durations.end());
    return *middle;
}

/// Decode and classify an image many times, and return the predictions and the median times.
std::string measure(const Classifier& classifier, const std::string& image_path, std::size_t runs) {
    using Clock = std::chrono::steady_clock;
    using Milliseconds = std::chrono::duration<double, std::milli>;
    std::vector<double> decoding;
    std::vector<double> classifying;
    std::string predictions;
    for (std::size_t run = 0; run < runs; ++run) {
        const auto start = Clock::now();
        const Image image = read_image(image_path, classifier.resized_side);
        const auto decoded = Clock::now();
        predictions = classifier.classify(image);
        decoding.push_back(Milliseconds(decoded - start).count());
        classifying.push_back(Milliseconds(Clock::now() - decoded).count());
    }
    char times[128];
    std::snprintf(times, sizeof times, "decoding %.2f ms, resizing and network %.2f ms (%zu runs)\n",
                  find_median(decoding), find_median(classifying), runs);
    return predictions + times;
}

/// Return the number of runs in an argument; 0 if it is none.
std::size_t parse_runs(const std::string& text) {
    const bool is_number = !text.empty() && text.size() <= 6 &&
                           text.find_first_not_of("0123456789") == std::string::npos;
    return is_number ? std::stoul(text) : 0;
}

}  // namespace

Image read_image(const std::string& path, std::size_t resized_side) {
    cv::Mat bgr = cv::imread(path, choose_mode(path, resized_side));
    if (bgr.empty()) {
        throw std::runtime_error(path + " is not an image that OpenCV reads: give a JPEG or PNG");
    }
    // A JPEG has no transparency, so it need not be decoded a second time.
    cv::Mat bgra = is_jpeg(path) ? bgr : cv::imread(path, cv::IMREAD_UNCHANGED);
    if (bgra.type() == CV_16UC4) bgra.convertTo(bgra, CV_8U, 1 / 257.0);
    if (bgra.type() == CV_8UC4) blend_over_white(bgra, bgr);
    cv::Mat rgb;
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    return {static_cast<std::size_t>(rgb.rows),
            static_cast<std::size_t>(rgb.cols),
            {rgb.datastart, rgb.dataend}};
}

Manifest parse_manifest(const std::string& json) {
    const auto data = nlohmann::json::parse(json, nullptr, false);
    if (!data.is_object()) {
        throw std::runtime_error(
            "the file has no manifest: make it with tinyvit-export --preprocess full");
    }
    if (data.at("embedded_preprocessing") != "full") {
        throw std::runtime_error(
            "the file leaves resizing to its caller: export it with --preprocess full");
    }
    return {data.at("precision"), data.at("input").at("name"), data.at("outputs").at(0).at("name"),
            data.at("labels").at("names"), read_resized_side(data.at("preprocess").at("resize"))};
}

std::string format_predictions(const float* logits, const Manifest& manifest, std::size_t top_k) {
    const std::size_t num_classes = manifest.labels.size();
    std::vector<std::size_t> order(num_classes);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t left, std::size_t right) {
        return logits[left] > logits[right];
    });
    // Softmax, relative to the largest logit so that the exponential cannot overflow.
    const float largest = logits[order[0]];
    const auto power = [&](std::size_t index) { return std::exp(logits[index] - largest); };
    double sum = 0;
    for (std::size_t index = 0; index < num_classes; ++index) sum += power(index);
    std::string lines;
    for (std::size_t rank = 0; rank < std::min(top_k, num_classes); ++rank) {
        char percent[16];
        std::snprintf(percent, sizeof percent, "%6.2f%%", 100 * power(order[rank]) / sum);
        lines += std::string(percent) + "  " + make_printable(manifest.labels[order[rank]]) + "\n";
    }
    return lines;
}

int run_program(int argc, char** argv, OpenModel open_model) {
    const std::size_t runs = argc == 4 ? parse_runs(argv[3]) : 1;
    if ((argc != 3 && argc != 4) || runs == 0) {
        std::cerr << "usage: " << argv[0] << " MODEL IMAGE [RUNS]\n";
        return 2;
    }
    const std::string model_path = argv[1];
    const std::string image_path = argv[2];
    try {
        if (!std::ifstream(model_path)) throw std::runtime_error(model_path + " cannot be read");
        const Classifier classifier = open_model(model_path);
        std::cout << (argc == 4
                          ? measure(classifier, image_path, runs)
                          : classifier.classify(read_image(image_path, classifier.resized_side)));
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "error: " << make_printable(error.what()) << "\n";
        return 1;
    }
}
