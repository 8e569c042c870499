// What both programs share: a picture's pixels, the manifest's labels, the answer as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// RGB, 8 bits, row by row: (height, width, 3).
struct Picture {
    std::size_t height = 0, width = 0;
    std::vector<std::uint8_t> pixels;
};

// Of the JSON that tinyvit-export wrote into the file.
struct Manifest {
    std::string model, precision, input, output;
    std::vector<std::string> labels;
};

// Decoded, turned as EXIF says, transparency over white. Throws std::runtime_error where there is no picture.
Picture read_picture(const std::string& path);

// Throws std::runtime_error where the text is no manifest, or of a file that leaves preprocessing to its caller.
Manifest read_manifest(const std::string& json);

// "96.1%  espresso", a line a class, best first; logits are as many as labels.
std::string best(const float* logits, const Manifest& manifest, std::size_t top_k = 5);

// What main does in both programs: classify argv[2] with argv[1], or say in one line why not. Returns the exit code.
int run(int argc, char** argv, std::string (*classify)(const std::string& model, const Picture& picture));
