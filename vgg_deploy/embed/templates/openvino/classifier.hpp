/// Classify images with an ONNX model that resizes and normalises by itself.
///
///     Classifier classifier(".");
///     for (auto [label, score] : classifier.classify(image)) ...
#pragma once

#include <openvino/openvino.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

/// 8-bit pixels row by row, channels interleaved; it does not own them.
struct Image {
    const std::uint8_t* pixels;
    std::size_t height, width;
    std::size_t channels;  ///< 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA
};

class Classifier {
public:
    using Classification = std::pair<std::string, float>;  ///< label and probability

    struct Result {
        std::vector<float> probabilities, logits;  ///< one per class
    };

    /// Load model.onnx and labels.txt of a folder; throws std::runtime_error.
    explicit Classifier(const std::filesystem::path& folder, const std::string& device = "CPU");

    /// The most probable labels, best first. Throws std::invalid_argument for what is no image.
    std::vector<Classification> classify(const Image& image, std::size_t top = 5);

    /// All probabilities and logits of one image. Not to be called by two threads at once.
    Result run(const Image& image);

private:
    std::vector<std::string> labels_;
    ov::InferRequest request_;
    std::size_t channels_;  // that the model takes: 1 or 3
};
