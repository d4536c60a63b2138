#include "classifier.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <stdexcept>

namespace {

/// The oldest that these files were tested with.
constexpr int kOldestYear = 2024, kOldestRelease = 6;

void refuse_old_runtime() {
    const std::string build = ov::get_openvino_version().buildNumber;  // "2026.4.1-..."
    int year = 0, release = 0;
    if (std::sscanf(build.c_str(), "%d.%d", &year, &release) == 2 &&
        std::make_pair(year, release) < std::make_pair(kOldestYear, kOldestRelease))
        throw std::runtime_error("OpenVINO " + build +
                                 " is too old for this model: use 2024.6 or newer");
}

std::vector<std::string> read_lines(const std::filesystem::path& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path.string() + " cannot be read");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        // as Git may check it out on Windows
        if (!line.empty() && line.back() == '\r') line.pop_back();
        lines.push_back(line);
    }
    return lines;
}

/// ITU-R 601-2 luma in 16-bit fixed point.
std::uint8_t grey_of(const std::uint8_t (&rgb)[3]) {
    return static_cast<std::uint8_t>(
        (19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
}

/// The image as a tensor with the model's channels; what is transparent lies on black.
ov::Tensor to_tensor(const Image& image, std::size_t channels) {
    if (!image.pixels || image.height == 0 || image.width == 0 || image.channels < 1 ||
        image.channels > 4)
        throw std::invalid_argument("no image: give 8-bit pixels with 1 to 4 channels");
    ov::Tensor tensor(ov::element::u8, {1, image.height, image.width, channels});
    const std::size_t colours = image.channels < 3 ? 1 : 3;
    const bool has_alpha = image.channels % 2 == 0;
    const std::uint8_t* from = image.pixels;
    auto* to = tensor.data<std::uint8_t>();
    for (std::size_t i = 0; i < image.height * image.width; ++i) {
        const unsigned alpha = has_alpha ? from[colours] : 255;
        std::uint8_t rgb[3];
        for (std::size_t k = 0; k < 3; ++k)
            rgb[k] = static_cast<std::uint8_t>((from[colours == 1 ? 0 : k] * alpha + 127) / 255);
        if (channels == 1)
            *to = colours == 1 ? rgb[0] : grey_of(rgb);
        else
            std::copy_n(rgb, 3, to);
        from += image.channels;
        to += channels;
    }
    return tensor;
}

std::vector<float> values_of(const ov::Tensor& tensor) {
    const auto* data = tensor.data<const float>();
    return {data, data + tensor.get_size()};
}

}  // namespace

Classifier::Classifier(const std::filesystem::path& folder, const std::string& device)
    : labels_(read_lines(folder / "labels.txt")) {
    refuse_old_runtime();
    ov::Core core;
    // Without the hint OpenVINO computes in bf16 where the processor has it.
    auto model = core.compile_model((folder / "model.onnx").string(), device,
                                    ov::hint::inference_precision(ov::element::f32));
    channels_ = static_cast<std::size_t>(model.input().get_partial_shape()[3].get_length());
    const auto classes = model.output("logits").get_partial_shape()[1].get_length();
    if (static_cast<std::size_t>(classes) != labels_.size())
        throw std::runtime_error(std::to_string(labels_.size()) + " labels for " +
                                 std::to_string(classes) + " classes");
    request_ = model.create_infer_request();
}

Classifier::Result Classifier::run(const Image& image) {
    request_.set_input_tensor(to_tensor(image, channels_));
    request_.infer();
    return {values_of(request_.get_tensor("probabilities")),
            values_of(request_.get_tensor("logits"))};
}

std::vector<Classifier::Classification> Classifier::classify(const Image& image, std::size_t top) {
    const auto scores = run(image).probabilities;
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    top = std::min(top, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top), order.end(),
                      [&](auto a, auto b) { return scores[a] > scores[b]; });
    std::vector<Classification> best;
    for (std::size_t i = 0; i < top; ++i) best.emplace_back(labels_[order[i]], scores[order[i]]);
    return best;
}
