/// Classify an image: classify photo.ppm (any tool writes PPM: convert photo.jpg photo.ppm).
#include <cerrno>
#include <cstdio>
#include <exception>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <system_error>

#include "classifier.hpp"

#ifndef MODEL_FOLDER  // where model.onnx and labels.txt lie; CMake defines it
#define MODEL_FOLDER "."
#endif

namespace {

/// The next number of a header, past white space and # comments.
std::size_t number(std::istream& file) {
    std::size_t value = 0;
    while (file >> std::ws && file.peek() == '#')
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    file >> value;
    return value;
}

/// A binary PGM or PPM of 8 bits: its pixels, and an Image that points to them.
std::pair<std::vector<std::uint8_t>, Image> read_pnm(const std::string& path) {
    if (std::filesystem::is_directory(path))  // it can be opened, and not read
        throw std::system_error(EISDIR, std::generic_category(), path);
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::system_error(errno, std::generic_category(), path);
    std::string kind(2, ' ');
    file.read(kind.data(), 2);
    const std::size_t width = number(file), height = number(file), most = number(file);
    file.get();
    if (!file || (kind != "P5" && kind != "P6") || most != 255 || width > 65535 || height > 65535)
        throw std::runtime_error(path + " is not an 8-bit binary PGM or PPM");
    const std::size_t channels = kind == "P6" ? 3 : 1;
    std::vector<std::uint8_t> pixels(width * height * channels);
    file.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
    if (!file) throw std::runtime_error(path + " is truncated");
    const Image image{pixels.data(), height, width, channels};
    return {std::move(pixels), image};
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2 && argc != 3) {
        std::fprintf(stderr, "usage: classify IMAGE.ppm [FOLDER]\n");
        return 2;
    }
    const auto [pixels, image] = read_pnm(argv[1]);
    const char* own = std::filesystem::exists("model.onnx") ? "." : MODEL_FOLDER;
    Classifier classifier(argc > 2 ? argv[2] : own);
    for (const auto& [label, score] : classifier.classify(image))
        std::printf("%7.2f%%  %s\n", 100 * score, label.c_str());
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
