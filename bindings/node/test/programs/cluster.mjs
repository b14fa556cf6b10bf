// A cluster whose primary and workers each have a busy client. Each worker ends in a different way.

import assert from 'node:assert/strict';
import cluster from 'node:cluster';
import { once } from 'node:events';
import { connect } from 'libdiscover';

const [url, waves] = process.argv.slice(2);
const WAYS = ['exit', 'disconnect', 'kill', 'throw'];
const client = await connect(url);
const web = client.services('web');

async function startLoad(address) {
  const lease = await client.register({ service: 'web', address });
  (async () => {
    for await (const event of web.watch()) {
      web.online();
    }
  })();
  (async () => {
    for (let n = 0; ; n += 1) {
      await lease.update({ n: String(n) });
    }
  })().catch(() => {});
  return lease;
}

async function worker(way) {
  await startLoad(`127.0.0.1:${process.pid % 60_000 + 2}`);
  await web.wait(2, { timeout: 20_000 });
  process.send('busy');
  await once(process, 'message');
  if (way === 'exit') {
    process.exit(0);
  } else if (way === 'throw') {
    process.on('uncaughtException', () => process.exit(7));
    throw new Error('oh no');
  } else {
    await client.close();
    process.disconnect();
  }
}

async function primary() {
  const lease = await startLoad('127.0.0.1:1');
  for (let wave = 0; wave < Number(waves); wave += 1) {
    const workers = WAYS.map((way) => cluster.fork({ WAY: way }));
    await Promise.all(workers.map((one) => once(one, 'message')));
    assert.equal((await web.wait(5, { timeout: 20_000 })).length, 5);
    const ends = await Promise.all(
      workers.map(async (one, at) => {
        const ended = once(one, 'exit');
        if (WAYS[at] === 'kill') {
          one.process.kill('SIGKILL');
        } else {
          one.send('leave');
        }
        return ended;
      }),
    );
    assert.deepEqual(ends, [[0, null], [0, null], [null, 'SIGKILL'], [7, null]]);
    for await (const _ of web.watch()) {
      if (web.online().length === 1) {
        break;
      }
    }
    assert.equal(lease.standing, 'live');
  }
  await client.close();
  console.log('left');
}

await (cluster.isPrimary ? primary() : worker(process.env.WAY));
