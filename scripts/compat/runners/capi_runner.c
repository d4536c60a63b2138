/* Run one ONNX file through ONNX Runtime's C API.
 * usage: capi_runner MODEL INPUT_NAME DTYPE FILE OUT RANK DIM...   ("uint8" or "float32")
 * OUT gets the logits as raw float32; the version is printed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_c_api.h"

static const OrtApi *api;

static void check(OrtStatus *status) {
  if (status == NULL) return;
  fprintf(stderr, "%s\n", api->GetErrorMessage(status));
  exit(1);
}

static void *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) exit(2);
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  void *data = malloc(*size);
  if (data == NULL || fread(data, 1, *size, file) != *size) exit(2);
  fclose(file);
  return data;
}

int main(int argc, char **argv) {
  if (argc < 7) return 2;
  const OrtApiBase *base = OrtGetApiBase();
  printf("%s\n", base->GetVersionString());
  api = base->GetApi(15); /* of ONNX Runtime 1.15: so much is used here, and later ones know it */
  if (api == NULL) return 3;
  OrtEnv *env;
  OrtSessionOptions *options;
  OrtSession *session;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "compatibility", &env));
  check(api->CreateSessionOptions(&options));
  check(api->SetIntraOpNumThreads(options, 1));
  check(api->CreateSession(env, argv[1], options, &session));
  int is_bytes = strcmp(argv[3], "uint8") == 0;
  size_t size, rank = (size_t)atoi(argv[6]);
  int64_t shape[8];
  for (size_t i = 0; i < rank && i < 8; ++i) shape[i] = atoll(argv[7 + i]);
  void *data = read_file(argv[4], &size);
  OrtMemoryInfo *memory;
  OrtValue *input = NULL, *output = NULL;
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  check(api->CreateTensorWithDataAsOrtValue(
      memory, data, size, shape, rank,
      is_bytes ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
  const char *inputs[] = {argv[2]}, *outputs[] = {"logits"};
  check(api->Run(session, NULL, inputs, (const OrtValue *const *)&input, 1, outputs, 1, &output));
  OrtTensorTypeAndShapeInfo *info;
  size_t count;
  float *logits;
  check(api->GetTensorTypeAndShape(output, &info));
  check(api->GetTensorShapeElementCount(info, &count));
  check(api->GetTensorMutableData(output, (void **)&logits));
  FILE *file = fopen(argv[5], "wb");
  if (file == NULL || fwrite(logits, sizeof *logits, count, file) != count) return 2;
  fclose(file);
  return 0;
}
