import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as esm from 'libdiscover';
import { TEST_FOLDER, run } from './helpers.mjs';

const require = createRequire(import.meta.url);

test('import and require give the same classes', () => {
  const cjs = require('libdiscover');
  const classes = ['Client', 'Descriptor', 'DiscoverError', 'Lease', 'ServiceSet'];
  const names = [...classes, 'Subscription', 'Watch', 'connect', 'scalingo'];
  assert.deepEqual(Object.keys(cjs).sort(), names);
  for (const name of names) {
    assert.equal(esm[name], cjs[name]);
  }
  assert.deepEqual(Object.keys(cjs.scalingo).sort(), ['Host', 'Service']);
});

test('every kind of error of the core has its code', () => {
  const { ERROR_CODES } = require('../dist/errors.js');
  const kinds = require('../dist/libdiscover.node').errorKinds();
  const codes = kinds.map((kind) => `ERR_DISCOVER_${kind.name.toUpperCase()}`);
  assert.deepEqual([...ERROR_CODES], codes);
  for (const [at, kind] of kinds.entries()) {
    const error = new esm.DiscoverError(codes[at], 'text');
    assert.ok(error instanceof Error);
    assert.deepEqual([error.name, error.code, error.message], ['DiscoverError', codes[at], 'text']);
    assert.equal(error.retriable, kind.retriable);
  }
});

test('an unknown kind is reported as internal', () => {
  const { discoverError } = require('../dist/errors.js');
  assert.equal(discoverError({ code: 'new_one', message: 'x' }).code, 'ERR_DISCOVER_INTERNAL');
});

test('the version is that of the package', () => {
  const { version } = require('libdiscover/package.json');
  assert.equal(require('../dist/libdiscover.node').version(), version);
});

test('an import starts nothing', async () => {
  const { out } = await run(`
    import { readFileSync, readdirSync } from 'node:fs';
    const listeners = process.listenerCount('exit');
    await import('libdiscover');
    const names = readdirSync('/proc/self/task').map((id) => readFileSync('/proc/self/task/' + id + '/comm', 'utf8'));
    console.log(names.filter((name) => name.startsWith('discover')).length, process.listenerCount('exit') - listeners);
  `);
  assert.equal(out, '0 0\n');
});

test('the log is printed only if NODE_DEBUG enables it', async () => {
  const program = `
    import { connect } from 'libdiscover';
    const write = process.stderr.write;
    const shown = new Promise((resolve) => {
      process.stderr.write = (...words) => (resolve(), write.apply(process.stderr, words));
    });
    const client = await connect('etcd://127.0.0.1:1?lazy=true');
    for await (const event of client.services('web').watch()) {
      if (event.kind === 'stale') break;
    }
    // The log does not keep the process alive.
    const timer = setInterval(() => {}, 1_000);
    await (process.env.NODE_DEBUG && shown);
    clearInterval(timer);
    await client.close();
  `;
  const shown = await run(program, { env: { NODE_DEBUG: 'discover' } });
  assert.match(shown.err, /DISCOVER \d+: warn discover_core\S*: watch lost, reconnecting service=web error=/);
  const silent = await run(program);
  assert.deepEqual([shown.code, silent.code, silent.err], [0, 0, '']);
});

test('the code of the README works', async () => {
  const readme = readFileSync(join(TEST_FOLDER, '..', 'README.md'), 'utf8');
  const [, program, says] = readme.match(/```js\n(.*?)```.*?```text\n(.*?)```/s);
  const { code, out, err } = await run(program, { env: { DISCOVER_URL: 'memory://readme' } });
  assert.deepEqual([code, out, err], [0, says, '']);
});

test('programs find the types, by import and by require', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'discover-types-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(join(TEST_FOLDER, '..'), join(folder, 'node_modules', 'libdiscover'));
  symlinkSync(join(TEST_FOLDER, '..', 'node_modules', '@types'), join(folder, 'node_modules', '@types'));
  const program = `
    import { connect, DiscoverError, type DiscoverEvent, type ErrorCode, type Instance } from 'libdiscover';
    export async function main(): Promise<readonly Instance[]> {
      const client = await connect();
      await client.register({ service: 'web', port: 80, attributes: { zone: 'eu' } });
      for await (const event of client.services('web').watch()) {
        tell(event);
      }
      await client[Symbol.asyncDispose]();
      return client.services('web').online();
    }
    function tell(event: DiscoverEvent): string | undefined {
      switch (event.kind) {
        case 'up': case 'update': case 'down': return event.instance.address;
        case 'leader': return event.instance?.address;
        case 'stale': return event.error.message;
        case 'current': case 'fresh': return undefined;
      }
    }
    export const code: ErrorCode = new DiscoverError('ERR_DISCOVER_TIMEOUT', 'late').code;
    // @ts-expect-error: frozen
    export const changed = (instance: Instance) => { instance.port = 1; };
    // @ts-expect-error: no such code
    export const wrong = new DiscoverError('ERR_DISCOVER_LATE', 'late');
  `;
  writeFileSync(join(folder, 'program.mts'), program);
  writeFileSync(join(folder, 'program.cts'), program);
  const compiler = require.resolve('typescript/bin/tsc');
  const options = ['--noEmit', '--strict', '--module', 'node16', '--target', 'es2022'];
  const words = [compiler, ...options, 'program.mts', 'program.cts'];
  const { status, stdout } = spawnSync(process.execPath, words, { cwd: folder, encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});
