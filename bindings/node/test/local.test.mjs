import assert from 'node:assert/strict';
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { TEST_FOLDER, local, open, rounds, run, describe, until } from './helpers.mjs';

/** Program that registers and runs until it is terminated. */
const member = (url) => `
  import { connect } from 'libdiscover';
  const client = await connect('${url}');
  await client.register({ service: 'web', address: '127.0.0.1:7' });
  console.log('ready');
  process.stdin.resume();
`;

test('an instance of another process comes online, and goes offline when it is killed', async (t) => {
  const url = local();
  const client = await open(t, url);
  const received = [];
  client.services('web').subscribe((event) => received.push(describe(event)));
  const kill = (child) => child.kill('SIGKILL');
  const started = (child) => void until(() => received.includes('up 7')).then(() => kill(child));
  const { signal } = await run(member(url), { started });
  assert.equal(signal, 'SIGKILL');
  await until(() => received.includes('down 7'));
});

test('a process that exits unregisters its instances', async (t) => {
  const url = local();
  const client = await open(t, url);
  const web = client.services('web');
  for (const ending of ['process.exit(0);', 'process.stdin.destroy();']) {
    const { code } = await run(`${member(url)}; ${ending}`);
    assert.equal(code, 0);
    await until(() => web.online().length === 0);
  }
  assert.equal(web.offline().length, 1);
});

test('a process started with fork has its own client', async (t) => {
  const url = local();
  const client = await open(t, url);
  await client.register({ service: 'web', address: '127.0.0.1:1' });
  const child = fork(join(TEST_FOLDER, 'programs', 'forked_child.mjs'), [url]);
  const [seen] = await once(child, 'message');
  assert.deepEqual(seen, ['127.0.0.1:1', '127.0.0.1:2']);
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  await until(() => client.services('web').online().length === 1);
});

test('the workers of a cluster end in every way, and the primary continues', async () => {
  const url = local();
  const child = spawn(process.execPath, [join(TEST_FOLDER, 'programs', 'cluster.mjs'), url, String(rounds(20))], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { out: '', err: '' };
  child.stdout.on('data', (data) => (output.out += data));
  child.stderr.on('data', (data) => (output.err += data));
  const [code, signal] = await once(child, 'close');
  assert.deepEqual({ code, signal, ...output }, { code: 0, signal: null, out: 'left\n', err: '' });
});
