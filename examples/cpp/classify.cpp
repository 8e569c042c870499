#include "classify.h"

#include <algorithm>
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

// imread's IMREAD_COLOR drops transparency: colors that nobody sees would count.
static void lay_on_white(const cv::Mat& bgra, cv::Mat& bgr) {
    bgr.create(bgra.size(), CV_8UC3);
    for (int y = 0; y < bgra.rows; ++y)
        for (int x = 0; x < bgra.cols; ++x) {
            const auto& from = bgra.at<cv::Vec4b>(y, x);
            for (int c = 0; c < 3; ++c) bgr.at<cv::Vec3b>(y, x)[c] = cv::saturate_cast<std::uint8_t>(255 - from[3] * (255 - from[c]) / 255.0);
        }
}

Picture read_picture(const std::string& path) {
    cv::Mat bgr = cv::imread(path, cv::IMREAD_COLOR);
    if (bgr.empty()) throw std::runtime_error(path + " is not a picture that OpenCV reads: give a JPEG or PNG");
    const bool jpeg = std::ifstream(path, std::ios::binary).get() == 0xFF; // has no transparency, and need not be decoded twice
    cv::Mat bgra = jpeg ? bgr : cv::imread(path, cv::IMREAD_UNCHANGED);
    if (bgra.type() == CV_16UC4) bgra.convertTo(bgra, CV_8U, 1 / 257.0);
    if (bgra.type() == CV_8UC4) lay_on_white(bgra, bgr);
    cv::Mat rgb;
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    return {static_cast<std::size_t>(rgb.rows), static_cast<std::size_t>(rgb.cols), {rgb.datastart, rgb.dataend}};
}

Manifest read_manifest(const std::string& json) {
    const auto data = nlohmann::json::parse(json, nullptr, false);
    if (!data.is_object()) throw std::runtime_error("the file has no manifest: make it with tinyvit-export --preprocess full");
    if (data.at("stage") != "full") throw std::runtime_error("the file leaves resizing to its caller: export it with --preprocess full");
    return {data.at("model"), data.at("precision"), data.at("input").at("name"), data.at("output").at("name"), data.at("labels").at("names")};
}

std::string best(const float* logits, const Manifest& manifest, std::size_t top_k) {
    const std::size_t classes = manifest.labels.size();
    std::vector<std::size_t> order(classes);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    double sum = 0;
    for (std::size_t i = 0; i < classes; ++i) sum += std::exp(logits[i] - logits[order[0]]);
    std::string lines;
    for (std::size_t i = 0; i < std::min(top_k, classes); ++i) {
        char percent[16];
        std::snprintf(percent, sizeof percent, "%6.2f%%", 100 * std::exp(logits[order[i]] - logits[order[0]]) / sum);
        lines += std::string(percent) + "  " + manifest.labels[order[i]] + "\n";
    }
    return lines;
}

int run(int argc, char** argv, std::string (*classify)(const std::string&, const Picture&)) {
    if (argc != 3) {
        std::cerr << "usage: " << argv[0] << " MODEL PICTURE\n";
        return 2;
    }
    try {
        if (!std::ifstream(argv[1])) throw std::runtime_error(std::string(argv[1]) + " cannot be read");
        std::cout << classify(argv[1], read_picture(argv[2]));
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 1;
    }
}
