/** The start of the page's server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../server', import.meta.url));

async function serves(started) {
  const server = spawn(process.execPath, [started], { env: { ...process.env, PORT: '0' } });
  try {
    const [said] = await Promise.race([once(server.stdout, 'data'), once(server, 'exit')]);
    const address = String(said).trim();
    assert.match(address, /^http:/);
    assert.equal((await fetch(address)).status, 200);
  } finally {
    server.kill();
  }
}

test('it starts by its name, with its ending or without', async () => {
  await serves(`${program}.js`);
  await serves(program);
});

/** Exit code and what is said when it starts with this PORT. */
async function refused(port) {
  const server = spawn(process.execPath, [`${program}.js`], { env: { ...process.env, PORT: port } });
  let said = '';
  server.stderr.on('data', (data) => (said += data));
  setTimeout(() => server.kill(), 10_000).unref();
  const [code] = await once(server, 'close');
  return [code, said];
}

test('a port that cannot be used is told in one line', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  try {
    await once(other, 'listening');
    const { port } = other.address();
    assert.deepEqual(await refused(port), [1, `port ${port} is in use; set PORT to another\n`]);
  } finally {
    other.close();
  }
  for (const port of ['abc', '65536', '-1', '80.5']) {
    assert.deepEqual(await refused(port), [1, `PORT is ${port}; set it to a number up to 65535\n`]);
  }
});

test('it starts through a link', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'server-'));
  try {
    await symlink(`${program}.js`, join(folder, 'page.js'));
    await serves(join(folder, 'page.js'));
  } finally {
    await rm(folder, { recursive: true });
  }
});
