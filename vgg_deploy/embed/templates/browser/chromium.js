/** The Chromium or Chrome that the tests drive. */
import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** Starts the browser that CHROMIUM names, or else the first that is found, without a window. */
export function launch() {
  return chromium.launch({
    executablePath: find(),
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream'],
  });
}

function find() {
  for (const name of process.env.CHROMIUM ? [process.env.CHROMIUM] : NAMES) {
    try {
      return execFileSync('which', [name], { encoding: 'utf8' }).trim();
    } catch {
      // try the next name
    }
  }
  throw new Error('no Chromium or Chrome was found: install one, or set CHROMIUM to its program');
}
