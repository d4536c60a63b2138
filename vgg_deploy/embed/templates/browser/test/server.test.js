/** The start of the page's server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
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

test('it starts through a link', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'server-'));
  try {
    await symlink(`${program}.js`, join(folder, 'page.js'));
    await serves(join(folder, 'page.js'));
  } finally {
    await rm(folder, { recursive: true });
  }
});
