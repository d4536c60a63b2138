/**
 * A server of the page, for development and as a model for a real one: what counts are the headers.
 * The two Cross-Origin ones let WebAssembly use threads.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { pipeline } from 'node:stream';

const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Content-Security-Policy':
    "default-src 'self'; connect-src 'self' data:; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; " +
    "img-src 'self' blob: data:; media-src 'self' blob:",
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-cache',
};
const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.mjs': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};
const FOLDERS = {
  '/ort/': new URL('node_modules/onnxruntime-web/dist/', import.meta.url),
  '/': new URL('public/', import.meta.url),
};

/** A server, not yet listening, of `folders`: URL prefixes, longest first, and where they lie. */
export function pageServer(folders = FOLDERS) {
  return createServer(async (request, response) => {
    try {
      const file = fileOf(new URL(request.url, 'http://localhost').pathname, folders);
      const { size } = await stat(file);
      response.writeHead(200, {
        ...HEADERS,
        'Content-Length': size,
        'Content-Type': TYPES[extname(file.pathname)] ?? 'application/octet-stream',
      });
      if (request.method === 'HEAD') response.end();
      else pipeline(createReadStream(file), response, () => {}); // closes both, whichever ends
    } catch {
      response.writeHead(404, HEADERS).end('not found\n');
    }
  });
}

/** The file a path names. `new URL` has resolved every `..`; an encoded one is refused. */
function fileOf(path, folders) {
  const prefix = Object.keys(folders).find((start) => path.startsWith(start));
  const name = path.slice(prefix.length) || 'index.html';
  const file = new URL(name, folders[prefix]);
  if (/%2f|%5c/i.test(name) || !file.href.startsWith(folders[prefix].href)) throw new Error('outside');
  return file;
}
