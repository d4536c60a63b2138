/// The golden vectors, and what must be refused. Usage: test_classifier FOLDER [open]
/// With open it ends when the model is open.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "classifier.hpp"
#include "golden_vectors.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what, const char* name) {
    if (holds) return;
    std::fprintf(stderr, "FAILED %s: %s\n", name, what);
    ++failures;
}

std::vector<std::uint8_t> read_bytes(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path.string() + " cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

double worst(const std::vector<float>& got, const double (&want)[GOLDEN_CLASSES]) {
    double most = got.size() == GOLDEN_CLASSES ? 0 : INFINITY;
    for (std::size_t i = 0; i < got.size() && i < GOLDEN_CLASSES; ++i) {
        const double apart = std::fabs(got[i] - want[i]);
        if (!(apart <= most)) most = apart;  // a NaN is kept, and fails every limit
    }
    return most;
}

void test_golden(Classifier& classifier, const std::filesystem::path& folder,
                 const golden_vector& v) {
    const auto pixels = read_bytes(folder / "golden" / v.file);
    const Image image{pixels.data(), static_cast<std::size_t>(v.height),
                      static_cast<std::size_t>(v.width), static_cast<std::size_t>(v.channels)};
    const auto result = classifier.run(image);
    const double p = worst(result.probabilities, v.probabilities), l = worst(result.logits, v.logits);
    std::printf("%-24s probabilities %.1e, logits %.1e\n", v.name, p, l);
    expect(p <= GOLDEN_PROBABILITY_TOLERANCE, "probabilities differ", v.name);
    expect(l <= GOLDEN_LOGIT_TOLERANCE, "logits differ", v.name);
    const auto best = classifier.classify(image, 3);
    expect(best.size() == (GOLDEN_CLASSES < 3 ? GOLDEN_CLASSES : 3), "three labels", v.name);
    for (std::size_t i = 1; i < best.size(); ++i)
        expect(best[i - 1].second >= best[i].second, "order", v.name);
}

void test_alpha_lies_on_black(Classifier& classifier) {
    const std::uint8_t rgba[] = {200, 100, 50, 255, 200, 100, 50, 0}, rgb[] = {200, 100, 50, 0, 0, 0};
    expect(classifier.run({rgba, 1, 2, 4}).logits == classifier.run({rgb, 1, 2, 3}).logits,
           "RGBA and RGB differ", "alpha");
}

template <typename Error, typename Call>
void expect_refusal(Call call, const char* what) {
    try {
        call();
    } catch (const Error&) {
        return;
    }
    expect(false, what, "refusals");
}

void test_refusals(Classifier& classifier) {
    const std::uint8_t pixel[5] = {};
    using Refusal = std::invalid_argument;
    expect_refusal<Refusal>([&] { classifier.run({pixel, 0, 1, 3}); }, "height 0 runs");
    expect_refusal<Refusal>([&] { classifier.run({pixel, 1, 1, 5}); }, "5 channels run");
    expect_refusal<Refusal>([&] { classifier.run({nullptr, 1, 1, 3}); }, "no pixels run");
    expect_refusal<std::runtime_error>([] { Classifier("/nowhere"); }, "opens without a model");
}

}  // namespace

int main(int argc, char** argv) try {
    const std::filesystem::path folder = argc > 1 ? argv[1] : ".";
    Classifier classifier(folder);
    if (argc > 2 && std::string(argv[2]) == "open") return 0;
    for (const auto& vector : GOLDEN) test_golden(classifier, folder, vector);
    test_alpha_lies_on_black(classifier);
    test_refusals(classifier);
    std::printf("%d golden vectors, %d failures\n", GOLDEN_COUNT, failures);
    return failures != 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
