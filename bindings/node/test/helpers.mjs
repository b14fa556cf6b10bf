// Helpers of the tests.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from 'libdiscover';

export const TEST_FOLDER = fileURLToPath(new URL('.', import.meta.url));
const WAIT_TIMEOUT_MS = 30_000;

let last = 0;

/** Returns the number of rounds of a long loop: `fullCount` in `make soak`, else a tenth of it. */
export function rounds(fullCount) {
  return process.env.DISCOVER_SOAK === '1' ? fullCount : Math.ceil(fullCount / 10);
}

/** Returns the URL of a registry in this process, different for each call. */
export function memory() {
  return `memory://${process.pid}-${++last}`;
}

const directories = [];
process.once('exit', () => directories.forEach((one) => rmSync(one, { recursive: true, force: true })));

/** Returns the URL of a registry in a new directory, which is removed when the test process exits. */
export function local() {
  const directory = mkdtempSync(join(tmpdir(), 'discover-'));
  directories.push(directory);
  return `local://${directory}`;
}

/** Opens a client that is closed after the test. */
export async function open(t, url = memory()) {
  const client = await connect(url);
  t.after(() => client.close());
  return client;
}

/** Waits until `condition` returns a truthy value, and returns it. */
export async function until(condition) {
  const deadline = Date.now() + WAIT_TIMEOUT_MS;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (Date.now() > deadline) {
      throw new Error(`never true: ${condition}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5)); // tidy: sleep, between two checks
  }
}

/** Formats an event as a short text. */
export function describe(event) {
  const about = 'instance' in event ? ` ${event.instance?.port ?? 'none'}` : '';
  return `${event.kind}${about}`;
}

/** Runs a program that can import `libdiscover`. Returns its exit code, signal and output. */
export function run(program, { args = [], env = {}, started = () => {}, limit = 2 * WAIT_TIMEOUT_MS } = {}) {
  return new Promise((resolve, reject) => {
    const words = ['--input-type=module', '--eval', program, ...args];
    const child = spawn(process.execPath, words, { cwd: TEST_FOLDER, env: { ...process.env, ...env } });
    const output = { out: '', err: '' };
    child.stdout.on('data', (data) => {
      output.out += data;
      started(child, output.out);
    });
    child.stderr.on('data', (data) => (output.err += data));
    const timer = setTimeout(() => child.kill('SIGKILL'), limit); // tidy: sleep, the limit
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, ...output });
    });
  });
}
