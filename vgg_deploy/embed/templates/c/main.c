/* Classify an image: classify photo.ppm (any tool writes PPM: convert photo.jpg photo.ppm). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classifier.h"

#ifndef MODEL_FOLDER /* where model.onnx and labels.txt lie; CMake defines it */
#define MODEL_FOLDER "."
#endif

/* The next number of a header, 1..65535, past white space and # comments; 0 where there is none. */
static int number(FILE *file) {
    int c, value = 0;
    while ((c = fgetc(file)) == '#' || isspace(c))
        if (c == '#')
            while ((c = fgetc(file)) != '\n' && c != EOF) {
            }
    for (; isdigit(c) && value <= 65535; c = fgetc(file)) value = 10 * value + c - '0';
    return value <= 65535 && isspace(c) ? value : 0; /* the white space after it is read, too */
}

/* A binary PGM or PPM of 8 bits; its pixels are to be freed. Returns 0, or -1 and says why. */
static int read_pnm(const char *path, classifier_image *result) {
    FILE *file = fopen(path, "rb");
    int kind = file && fgetc(file) == 'P' ? fgetc(file) - '0' : 0;
    if (!file || ferror(file)) { /* a folder can be opened, and not read */
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        if (file) fclose(file);
        return -1;
    }
    int width = number(file), height = number(file), most = number(file);
    uint8_t *pixels = NULL;
    int channels = kind == 6 ? 3 : 1;
    if ((kind == 5 || kind == 6) && most == 255 && width > 0 && height > 0) {
        size_t size = (size_t)width * (size_t)height * (size_t)channels;
        pixels = malloc(size);
        if (pixels && fread(pixels, 1, size, file) != size) {
            free(pixels);
            pixels = NULL;
        }
    }
    fclose(file);
    *result = (classifier_image){pixels, height, width, channels};
    if (!pixels) fprintf(stderr, "%s is not an 8-bit binary PGM or PPM\n", path);
    return pixels ? 0 : -1;
}

/* The folder that is named, this one where it has a model, or that of the app. */
static const char *model_folder(int argc, char **argv) {
    if (argc > 2) return argv[2];
    FILE *model = fopen("model.onnx", "rb");
    if (!model) return MODEL_FOLDER;
    fclose(model);
    return ".";
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: classify IMAGE.ppm [FOLDER]\n");
        return 2;
    }
    classifier_image picture;
    if (read_pnm(argv[1], &picture)) return 1;
    classifier_label best[5];
    classifier *c = classifier_open(model_folder(argc, argv));
    int found = c ? classifier_classify(c, &picture, best, 5) : -1;
    if (found < 0) fprintf(stderr, "%s\n", classifier_error());
    for (int i = 0; i < found; i++) printf("%7.2f%%  %s\n", 100 * best[i].score, best[i].label);
    classifier_close(c);
    free((void *)picture.pixels);
    return found < 0;
}
