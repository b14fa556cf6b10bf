// What the tests share.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from 'libdiscover';

export const HERE = fileURLToPath(new URL('.', import.meta.url));
const PATIENCE = 30_000;

let last = 0;

/** How often a long loop runs: in full in `make soak`, else a tenth of that. */
export function rounds(inFull) {
  return process.env.DISCOVER_SOAK === '1' ? inFull : Math.ceil(inFull / 10);
}

/** A registry of this process that no other test knows. */
export function memory() {
  return `memory://${process.pid}-${++last}`;
}

const directories = [];
process.once('exit', () => directories.forEach((one) => rmSync(one, { recursive: true, force: true })));

/** A directory of its own as a registry, removed in the end, when no client writes there any more. */
export function local() {
  const directory = mkdtempSync(join(tmpdir(), 'discover-'));
  directories.push(directory);
  return `local://${directory}`;
}

/** A client that is closed after the test. */
export async function open(t, url = memory()) {
  const client = await connect(url);
  t.after(() => client.close());
  return client;
}

/** Waits until `condition` gives something. */
export async function until(condition) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (Date.now() > deadline) {
      throw new Error(`never true: ${condition}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5)); // tidy: sleep, between two looks
  }
}

/** An event as a short text. */
export function told(event) {
  const about = 'instance' in event ? ` ${event.instance?.port ?? 'none'}` : '';
  return `${event.kind}${about}`;
}

/** Runs a program, in which `libdiscover` is the package, and gives how it ended. */
export function run(program, { args = [], env = {}, started = () => {}, limit = 2 * PATIENCE } = {}) {
  return new Promise((resolve, reject) => {
    const words = ['--input-type=module', '--eval', program, ...args];
    const child = spawn(process.execPath, words, { cwd: HERE, env: { ...process.env, ...env } });
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
