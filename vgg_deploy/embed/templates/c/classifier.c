#include "classifier.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_c_api.h"

/* Version 15 of the API came with ONNX Runtime 1.15, the first that reads opset 18. */
enum { OLDEST_API = 15 };

struct classifier {
    const OrtApi *ort;
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *cpu;
    char *text;    /* labels.txt, its line ends replaced by zeros */
    char **labels; /* pointers into text */
    int classes;
    int channels; /* that the model takes: 1 or 3 */
};

static _Thread_local char message[512];

const char *classifier_error(void) { return message; }

int classifier_classes(const classifier *c) { return c->classes; }

static int fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    return -1;
}

/* 0, or -1 with the runtime's own words. */
static int check(const OrtApi *ort, OrtStatus *status) {
    if (status == NULL) return 0;
    fail("ONNX Runtime: %s", ort->GetErrorMessage(status));
    ort->ReleaseStatus(status);
    return -1;
}

static char *join(const char *folder, const char *name) {
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s", folder, name);
    return path;
}

static char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *text = NULL;
    long size = -1;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size >= 0 && (text = calloc((size_t)size + 1, 1))) {
        rewind(file);
        if (fread(text, 1, (size_t)size, file) != (size_t)size) {
            free(text);
            text = NULL;
        }
    }
    fclose(file);
    return text;
}

static int load_labels(classifier *c, const char *folder) {
    char *path = join(folder, "labels.txt");
    if (path) c->text = read_text(path);
    free(path);
    if (!c->text) return fail("%s/labels.txt cannot be read", folder);
    for (const char *at = c->text; *at; at++) c->classes += *at == '\n' || !at[1];
    c->labels = calloc((size_t)c->classes + 1, sizeof *c->labels);
    if (!c->labels) return fail("out of memory");
    char *at = c->text;
    for (int i = 0; i < c->classes; i++) {
        char *end = at + strcspn(at, "\n"), *next = *end ? end + 1 : end;
        if (end > at && end[-1] == '\r') end--; /* as Git may check it out on Windows */
        *end = '\0';
        c->labels[i] = at;
        at = next;
    }
    return 0;
}

static int load_model(classifier *c, const char *folder) {
    char *path = join(folder, "model.onnx");
    if (!path) return fail("out of memory");
    OrtSessionOptions *options = NULL;
    int bad = check(c->ort, c->ort->CreateSessionOptions(&options)) ||
              check(c->ort, c->ort->CreateSession(c->env, path, options, &c->session));
    if (options) c->ort->ReleaseSessionOptions(options);
    free(path);
    return bad ? -1 : 0;
}

/* The last axis of an input or output: channels or classes. */
static int last_axis(classifier *c, OrtTypeInfo *type, int64_t *size) {
    const OrtTensorTypeAndShapeInfo *tensor;
    int64_t dims[4] = {0};
    size_t rank = 0;
    int bad = check(c->ort, c->ort->CastTypeInfoToTensorInfo(type, &tensor)) ||
              check(c->ort, c->ort->GetDimensionsCount(tensor, &rank));
    if (!bad && (rank < 1 || rank > 4)) bad = fail("the model has a tensor of rank %zu", rank);
    if (!bad) bad = check(c->ort, c->ort->GetDimensions(tensor, dims, rank));
    if (!bad) *size = dims[rank - 1];
    c->ort->ReleaseTypeInfo(type);
    return bad ? -1 : 0;
}

static int read_shapes(classifier *c) {
    OrtTypeInfo *type = NULL;
    int64_t channels = 0, classes = 0;
    if (check(c->ort, c->ort->SessionGetInputTypeInfo(c->session, 0, &type)) ||
        last_axis(c, type, &channels) ||
        check(c->ort, c->ort->SessionGetOutputTypeInfo(c->session, 0, &type)) ||
        last_axis(c, type, &classes))
        return -1;
    if (classes != c->classes)
        return fail("%d labels for %lld classes", c->classes, (long long)classes);
    c->channels = (int)channels;
    return 0;
}

classifier *classifier_open(const char *folder) {
    const OrtApiBase *base = OrtGetApiBase();
    const OrtApi *ort = base->GetApi(OLDEST_API);
    if (!ort) {
        fail("ONNX Runtime %s is too old for this model: use 1.%d or newer",
             base->GetVersionString(), OLDEST_API);
        return NULL;
    }
    classifier *c = calloc(1, sizeof *c);
    if (!c) {
        fail("out of memory");
        return NULL;
    }
    c->ort = ort;
    if (load_labels(c, folder) ||
        check(ort, ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "classifier", &c->env)) ||
        check(ort, ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &c->cpu)) ||
        load_model(c, folder) || read_shapes(c)) {
        classifier_close(c);
        return NULL;
    }
    return c;
}

void classifier_close(classifier *c) {
    if (!c) return;
    if (c->session) c->ort->ReleaseSession(c->session);
    if (c->cpu) c->ort->ReleaseMemoryInfo(c->cpu);
    if (c->env) c->ort->ReleaseEnv(c->env);
    free(c->labels);
    free(c->text);
    free(c);
}

/* ITU-R 601-2 luma in 16-bit fixed point. */
static uint8_t grey_of(const uint8_t rgb[3]) {
    return (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
}

/* Pixels with the model's channels, what is transparent on black; to be freed, or NULL. */
static uint8_t *to_channels(const classifier_image *image, int channels) {
    if (!image->pixels || image->height < 1 || image->width < 1 || image->channels < 1 ||
        image->channels > 4) {
        fail("a %d x %d image with %d channels; give 8-bit pixels with 1 to 4 channels",
             image->width, image->height, image->channels);
        return NULL;
    }
    size_t count = (size_t)image->height * (size_t)image->width;
    uint8_t *pixels = malloc(count * (size_t)channels);
    if (!pixels) {
        fail("out of memory");
        return NULL;
    }
    int colours = image->channels < 3 ? 1 : 3;
    const uint8_t *from = image->pixels;
    uint8_t *to = pixels;
    for (size_t i = 0; i < count; i++, from += image->channels, to += channels) {
        unsigned alpha = image->channels % 2 ? 255 : from[colours];
        uint8_t rgb[3];
        for (int k = 0; k < 3; k++)
            rgb[k] = (uint8_t)((from[colours == 1 ? 0 : k] * alpha + 127) / 255);
        if (channels == 1)
            to[0] = colours == 1 ? rgb[0] : grey_of(rgb);
        else
            memcpy(to, rgb, 3);
    }
    return pixels;
}

static int copy_out(classifier *c, OrtValue *value, float *to) {
    void *data;
    if (check(c->ort, c->ort->GetTensorMutableData(value, &data))) return -1;
    memcpy(to, data, (size_t)c->classes * sizeof *to);
    return 0;
}

int classifier_run(classifier *c, const classifier_image *image, float *probabilities,
                   float *logits) {
    uint8_t *pixels = to_channels(image, c->channels);
    if (!pixels) return -1;
    const int64_t dims[4] = {1, image->height, image->width, c->channels};
    size_t size = (size_t)(dims[1] * dims[2] * dims[3]);
    const char *const inputs[] = {"image"};
    const char *const outputs[] = {"probabilities", "logits"};
    OrtValue *input = NULL, *output[2] = {NULL, NULL};
    int bad = check(c->ort, c->ort->CreateTensorWithDataAsOrtValue(
                                c->cpu, pixels, size, dims, 4,
                                ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &input)) ||
              check(c->ort, c->ort->Run(c->session, NULL, inputs, (const OrtValue *const *)&input,
                                        1, outputs, 2, output)) ||
              copy_out(c, output[0], probabilities) || copy_out(c, output[1], logits);
    for (int i = 0; i < 2; i++)
        if (output[i]) c->ort->ReleaseValue(output[i]);
    if (input) c->ort->ReleaseValue(input);
    free(pixels);
    return bad ? -1 : 0;
}

static int by_score(const void *a, const void *b) {
    float x = ((const classifier_label *)a)->score, y = ((const classifier_label *)b)->score;
    return (x < y) - (x > y);
}

int classifier_classify(classifier *c, const classifier_image *image, classifier_label *best,
                        int top) {
    if (top < 0) return fail("the number of labels is negative");
    size_t classes = (size_t)c->classes;
    float *scores = malloc(2 * classes * sizeof *scores);
    classifier_label *all = malloc(classes * sizeof *all);
    int found = -1;
    if (!scores || !all) {
        fail("out of memory");
    } else if (classifier_run(c, image, scores, scores + classes) == 0) {
        for (size_t i = 0; i < classes; i++) all[i] = (classifier_label){c->labels[i], scores[i]};
        qsort(all, classes, sizeof *all, by_score);
        found = top < c->classes ? top : c->classes;
        memcpy(best, all, (size_t)found * sizeof *best);
    }
    free(all);
    free(scores);
    return found;
}
