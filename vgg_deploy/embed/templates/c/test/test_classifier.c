/* The golden vectors, and what must be refused. Usage: test_classifier FOLDER [open]
   With open it ends when the model is open. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classifier.h"
#include "golden_vectors.h"

static int failures;

static void expect(int holds, const char *what, const char *name) {
    if (holds) return;
    fprintf(stderr, "FAILED %s: %s %s\n", name, what, classifier_error());
    failures++;
}

static uint8_t *read_file(const char *folder, const char *name, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/golden/%s", folder, name);
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(size);
    if (!file || !bytes || fread(bytes, 1, size, file) != size) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    fclose(file);
    return bytes;
}

static double worst(const float *got, const double *want) {
    double most = 0;
    for (int i = 0; i < GOLDEN_CLASSES; i++) {
        double apart = fabs(got[i] - want[i]);
        if (!(apart <= most)) most = apart; /* a NaN is kept, and fails every limit */
    }
    return most;
}

static void test_golden(classifier *c, const char *folder, const golden_vector *v) {
    size_t size = (size_t)v->height * (size_t)v->width * (size_t)v->channels;
    uint8_t *pixels = read_file(folder, v->file, size);
    classifier_image picture = {pixels, v->height, v->width, v->channels};
    float probabilities[GOLDEN_CLASSES], logits[GOLDEN_CLASSES];
    expect(classifier_run(c, &picture, probabilities, logits) == 0, "does not run:", v->name);
    double p = worst(probabilities, v->probabilities), l = worst(logits, v->logits);
    printf("%-24s probabilities %.1e, logits %.1e\n", v->name, p, l);
    expect(p <= GOLDEN_PROBABILITY_TOLERANCE, "probabilities differ", v->name);
    expect(l <= GOLDEN_LOGIT_TOLERANCE, "logits differ", v->name);

    classifier_label best[3];
    int shown = GOLDEN_CLASSES < 3 ? GOLDEN_CLASSES : 3;
    expect(classifier_classify(c, &picture, best, 3) == shown, "does not classify:", v->name);
    for (int i = 1; i < shown; i++) expect(best[i - 1].score >= best[i].score, "order", v->name);
    free(pixels);
}

static void test_alpha_lies_on_black(classifier *c) {
    const uint8_t rgba[] = {200, 100, 50, 255, 200, 100, 50, 0}, rgb[] = {200, 100, 50, 0, 0, 0};
    float a[GOLDEN_CLASSES], b[GOLDEN_CLASSES], logits[GOLDEN_CLASSES];
    expect(classifier_run(c, &(classifier_image){rgba, 1, 2, 4}, a, logits) == 0, "RGBA", "alpha");
    expect(classifier_run(c, &(classifier_image){rgb, 1, 2, 3}, b, logits) == 0, "RGB", "alpha");
    expect(memcmp(a, b, sizeof a) == 0, "RGBA and RGB differ", "alpha");
}

static int refuses(classifier *c, const uint8_t *pixels, int height, int channels) {
    float p[GOLDEN_CLASSES], l[GOLDEN_CLASSES];
    return classifier_run(c, &(classifier_image){pixels, height, 1, channels}, p, l) == -1;
}

static void test_refusals(classifier *c) {
    const uint8_t pixel[5] = {0};
    expect(refuses(c, pixel, 0, 3), "height 0 runs", "refusals");
    expect(refuses(c, pixel, 1, 5), "5 channels run", "refusals");
    expect(refuses(c, NULL, 1, 3), "NULL runs", "refusals");
    classifier_label best[1];
    expect(classifier_classify(c, &(classifier_image){pixel, 1, 1, 1}, best, -1) == -1,
           "a negative number of labels", "refusals");
    expect(classifier_open("/nowhere") == NULL, "opens a folder without a model", "refusals");
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : ".";
    classifier *c = classifier_open(folder);
    if (!c) {
        fprintf(stderr, "%s\n", classifier_error());
        return 2;
    }
    if (argc > 2 && strcmp(argv[2], "open") == 0) {
        classifier_close(c);
        return 0;
    }
    expect(classifier_classes(c) == GOLDEN_CLASSES, "number of classes", "model");
    for (int i = 0; i < GOLDEN_COUNT; i++) test_golden(c, folder, &GOLDEN[i]);
    test_alpha_lies_on_black(c);
    test_refusals(c);
    classifier_close(c);
    printf("%d golden vectors, %d failures\n", GOLDEN_COUNT, failures);
    return failures != 0;
}
