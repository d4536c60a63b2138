/* Classify an image: classify photo.ppm (any tool writes PPM: convert photo.jpg photo.ppm). */
#include <stdio.h>
#include <stdlib.h>

#include "classifier.h"

/* A binary PGM or PPM of 8 bits; its pixels are to be freed. Returns 0, or -1. */
static int read_pnm(const char *path, classifier_image *result) {
    int kind = 0, width = 0, height = 0, most = 0;
    FILE *file = fopen(path, "rb");
    if (!file) return -1;
    int fields = fscanf(file, "P%d %d %d %d", &kind, &width, &height, &most);
    uint8_t *pixels = NULL;
    int channels = kind == 6 ? 3 : 1;
    if (fields == 4 && (kind == 5 || kind == 6) && most == 255 && width > 0 && height > 0 &&
        width <= 65535 && height <= 65535 && fgetc(file) != EOF) {
        size_t size = (size_t)width * (size_t)height * (size_t)channels;
        pixels = malloc(size);
        if (pixels && fread(pixels, 1, size, file) != size) {
            free(pixels);
            pixels = NULL;
        }
    }
    fclose(file);
    *result = (classifier_image){pixels, height, width, channels};
    return pixels ? 0 : -1;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: classify IMAGE.ppm\n");
        return 2;
    }
    classifier_image picture;
    if (read_pnm(argv[1], &picture)) {
        fprintf(stderr, "%s is not an 8-bit binary PGM or PPM\n", argv[1]);
        return 1;
    }
    classifier_label best[5];
    classifier *c = classifier_open(".");
    int found = c ? classifier_classify(c, &picture, best, 5) : -1;
    if (found < 0) fprintf(stderr, "%s\n", classifier_error());
    for (int i = 0; i < found; i++) printf("%7.2f%%  %s\n", 100 * best[i].score, best[i].label);
    classifier_close(c);
    free((void *)picture.pixels);
    return found < 0;
}
