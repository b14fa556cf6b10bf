import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { connect } from 'libdiscover';

/** Starts a server that accepts connections and never responds. */
async function blackHole(t) {
  const sockets = [];
  const server = createServer((socket) => sockets.push(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  return `etcd://127.0.0.1:${server.address().port}`;
}

/** Returns the longest time between two turns of the event loop during `work`. */
async function longestTurn(work) {
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }, 5);
  const begin = performance.now();
  await work();
  clearInterval(timer);
  return { longest, took: performance.now() - begin };
}

test('connecting does not stop the event loop', async (t) => {
  const url = `${await blackHole(t)}?connect_timeout=2s`;
  const { longest, took } = await longestTurn(() =>
    assert.rejects(connect(url), (error) => error.retriable && error.message.includes('cannot open')),
  );
  assert.ok(took > 1_900, `took ${took} ms`);
  assert.ok(longest < 1_000, `a turn took ${longest} ms`);
});

test('closing does not stop the event loop, and ends calls in progress', async (t) => {
  const client = await connect(`${await blackHole(t)}?lazy=true&connect_timeout=60s`);
  const registered = assert.rejects(client.register({ service: 'web', port: 1 }), {
    code: 'ERR_DISCOVER_CLOSED',
  });
  const waited = assert.rejects(client.services('web').wait(1, { timeout: 60_000 }), {
    code: 'ERR_DISCOVER_CLOSED',
  });
  const { longest, took } = await longestTurn(() => client.close({ timeout: 2_000 }));
  assert.ok(longest < 1_000, `a turn took ${longest} ms`);
  assert.ok(took < 20_000, `took ${took} ms`);
  await Promise.all([registered, waited]);
});

test('a register with a short timeout ends in time', async (t) => {
  const client = await connect(`${await blackHole(t)}?lazy=true&connect_timeout=60s`);
  await assert.rejects(client.register({ service: 'web', port: 1, timeout: 50 }), {
    code: 'ERR_DISCOVER_TIMEOUT',
    retriable: true,
  });
  await client.close();
});

test('a busy event loop delays no heartbeat', async (t) => {
  const url = `memory://busy-${process.pid}?ttl=1s`;
  const [client, other] = await Promise.all([connect(url), connect(url)]);
  t.after(() => Promise.all([client.close(), other.close()]));
  await client.register({ service: 'web', port: 1, host: '127.0.0.1' });
  const web = other.services('web');
  await web.wait(1, { timeout: 10_000 });
  const before = web.online();
  const deadline = performance.now() + 2_500;
  while (performance.now() < deadline);
  await web.wait(1, { timeout: 0 });
  assert.equal(web.online(), before);
  assert.deepEqual(web.offline(), []);
});
