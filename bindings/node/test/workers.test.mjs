import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rounds, run } from './helpers.mjs';

/** The time limit of the whole test, in proportion to the number of workers. */
const LIMIT = { limit: 60_000 + rounds(500) * 2_000 };

/** The program of a worker, which is busy until it is terminated. */
const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { connect } = require('libdiscover');
  (async () => {
    const client = await connect('memory://workers');
    const web = client.services('web');
    for (let n = 0; n < 5; n += 1) {
      web.subscribe(() => web.online());
      (async () => { for await (const event of web.watch()); })();
      web.wait(1_000, { timeout: 60_000 }).catch(() => {});
    }
    const lease = await client.register({ service: 'web', port: workerData });
    parentPort.postMessage('hot');
    for (let n = 0; ; n += 1) {
      await lease.update({ n: String(n) });
    }
  })();
`;

/** Starts workers in waves and ends each with the statement `end`, at any point of its work. */
const program = (waves, each, end) => `
  import { Worker } from 'node:worker_threads';
  import { once } from 'node:events';
  const source = ${JSON.stringify(WORKER)};
  let port = 1;
  for (let wave = 0; wave < ${waves}; wave += 1) {
    const workers = Array.from({ length: ${each} }, () => new Worker(source, { eval: true, execArgv: [], workerData: port++ }));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    await Promise.all(workers.map(async (worker, at) => {
      await new Promise((resolve) => setTimeout(resolve, at * 3)); // tidy: sleep, any moment
      ${end}
    }));
  }
  const { connect } = await import('libdiscover');
  const client = await connect('memory://workers');
  await client.services('web').wait(0, { timeout: 10_000 });
  console.log(client.services('web').online().length);
  await client.close();
`;

test('busy workers are terminated, and their instances go offline', async () => {
  const ended = await run(program(rounds(500) / 10, 10, 'await worker.terminate();'), LIMIT);
  assert.deepEqual(ended, { code: 0, signal: null, out: '0\n', err: '' });
});

test('workers that are terminated while they start do no harm', async () => {
  const source = `
    import { Worker } from 'node:worker_threads';
    const source = ${JSON.stringify(WORKER)};
    for (let n = 0; n < 30; n += 1) {
      const worker = new Worker(source, { eval: true, execArgv: [], workerData: n + 1 });
      await new Promise((resolve) => setTimeout(resolve, n * 2)); // tidy: sleep, any moment
      await worker.terminate();
    }
    console.log('left');
  `;
  assert.deepEqual(await run(source), { code: 0, signal: null, out: 'left\n', err: '' });
});

test('the process may exit while workers are busy', async () => {
  const source = `
    import { Worker } from 'node:worker_threads';
    import { once } from 'node:events';
    const source = ${JSON.stringify(WORKER)};
    const workers = Array.from({ length: 10 }, (_, n) => new Worker(source, { eval: true, execArgv: [], workerData: n + 1 }));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    process.exit(0);
  `;
  assert.deepEqual(await run(source), { code: 0, signal: null, out: '', err: '' });
});

test('a worker whose callback never returns is terminated, and its instances go offline', async () => {
  const stuck = `
    const { parentPort } = require('node:worker_threads');
    const { connect } = require('libdiscover');
    (async () => {
      const client = await connect('memory://workers');
      await client.register({ service: 'web', address: '127.0.0.1:1' });
      client.services('web').subscribe(() => {
        parentPort.postMessage('stuck');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      });
    })();
  `;
  const source = `
    import { Worker } from 'node:worker_threads';
    import { once } from 'node:events';
    import { connect } from 'libdiscover';
    const client = await connect('memory://workers');
    const web = client.services('web');
    for (let n = 0; n < 5; n += 1) {
      const worker = new Worker(${JSON.stringify(stuck)}, { eval: true, execArgv: [] });
      await once(worker, 'message');
      const seen = (await web.wait(1, { timeout: 10_000 })).length;
      await worker.terminate();
      for await (const _ of web.watch()) {
        if (web.online().length === 0) {
          break;
        }
      }
      console.log(seen, web.online().length);
    }
    await client.close();
  `;
  assert.deepEqual(await run(source), { code: 0, signal: null, out: '1 0\n'.repeat(5), err: '' });
});
