// Run one ONNX file in Node: node node_runner.mjs PACKAGE CASE.json OUT.json
// PACKAGE is onnxruntime-node or onnxruntime-web, resolved from the current folder.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , name, given, result] = process.argv;
const require = createRequire(join(process.cwd(), "package.json"));
const version = JSON.parse(
  readFileSync(join(process.cwd(), "node_modules", name, "package.json"), "utf-8"),
).version;
const testCase = JSON.parse(readFileSync(given, "utf-8"));
const out = { version, loads: false, error: "", logits: {} };

function tensorOf(ort, entry) {
  const bytes = readFileSync(entry.file);
  const data =
    entry.dtype === "uint8"
      ? new Uint8Array(bytes)
      : new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  return new ort.Tensor(entry.dtype, data, entry.shape);
}

try {
  const ort =
    name === "onnxruntime-web"
      ? await import(pathToFileURL(require.resolve(name)).href)
      : require(name);
  const api = ort.InferenceSession ? ort : ort.default;
  if (api.env?.wasm) api.env.wasm.numThreads = 1;
  const session = await api.InferenceSession.create(
    name === "onnxruntime-web" ? new Uint8Array(readFileSync(testCase.model)) : testCase.model,
    { intraOpNumThreads: 1, executionProviders: [name === "onnxruntime-web" ? "wasm" : "cpu"] },
  );
  out.loads = true;
  for (const entry of testCase.inputs) {
    const outputs = await session.run({ [testCase.input]: tensorOf(api, entry) }, ["logits"]);
    const { data, dims } = outputs.logits;
    const rows = [];
    for (let row = 0; row < dims[0]; row += 1) {
      rows.push(Array.from(data.subarray(row * dims[1], (row + 1) * dims[1])));
    }
    out.logits[entry.name] = rows;
  }
} catch (error) {
  out.error = String(error?.message ?? error).trim().split("\n")[0].slice(0, 300);
}
writeFileSync(result, JSON.stringify(out));
process.exit(0);
