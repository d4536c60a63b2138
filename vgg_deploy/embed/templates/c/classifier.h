/* Classify images with an ONNX model that resizes and normalises by itself.
 *
 *     classifier *c = classifier_open(".");
 *     classifier_label best[5];
 *     int found = classifier_classify(c, &image, best, 5);
 *
 * Functions that fail return NULL or -1; classifier_error() then says why.
 */
#ifndef CLASSIFIER_H
#define CLASSIFIER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct classifier classifier; /* threads may share one */

typedef struct {
    const uint8_t *pixels; /* height x width x channels bytes, row by row */
    int height, width;
    int channels; /* 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA */
} classifier_image;

typedef struct {
    const char *label; /* UTF-8, lives as long as the classifier */
    float score;       /* probability, 0..1 */
} classifier_label;

/* Load model.onnx and labels.txt of a folder. */
classifier *classifier_open(const char *folder);

/* The most probable labels, best first; returns how many: top, or fewer if there are fewer. */
int classifier_classify(classifier *c, const classifier_image *image, classifier_label *best,
                        int top);

/* All probabilities and logits of one image: classifier_classes() floats each. Returns 0. */
int classifier_run(classifier *c, const classifier_image *image, float *probabilities,
                   float *logits);

int classifier_classes(const classifier *c);
void classifier_close(classifier *c);

/* What went wrong last in this thread. */
const char *classifier_error(void);

#ifdef __cplusplus
}
#endif
#endif
