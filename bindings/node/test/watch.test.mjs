import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { connect } from 'libdiscover';
import { memory, open, run, describe, until } from './helpers.mjs';

const at = (port) => ({ service: 'web', host: '127.0.0.1', port });

test('a callback receives the full state, then current, then every change', async (t) => {
  const client = await open(t);
  await client.register(at(1));
  const received = [];
  const subscription = client.services('web').subscribe((event) => received.push(event));
  await until(() => received.some((event) => event.kind === 'current'));
  const lease = await client.register(at(2));
  await until(() => received.length === 4);
  await lease.update({ a: '1' });
  await until(() => received.length === 5);
  await lease.unregister();
  await until(() => received.length === 6);
  assert.deepEqual(received.map(describe), ['up 1', 'leader 1', 'current', 'up 2', 'update 2', 'down 2']);
  assert.ok(received.every((event) => Object.isFrozen(event)));
  subscription.cancel();
  await client.register(at(3));
  await client.services('web').wait(2, { timeout: 10_000 });
  assert.equal(received.length, 6);
});

test('in a callback the set is at least as new as the event', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  const seen = [];
  web.subscribe((event) => {
    if (event.kind === 'up') {
      seen.push(web.online().some((instance) => instance.id === event.instance.id));
    }
  });
  for (let port = 1; port <= 20; port += 1) {
    await client.register(at(port));
  }
  await until(() => seen.length === 20);
  assert.ok(seen.every(Boolean));
});

test('a callback may cancel itself, and receives no more of the same batch', async (t) => {
  const client = await open(t);
  await client.register(at(1));
  await client.register(at(2));
  const web = client.services('web');
  await web.wait(2, { timeout: 10_000 });
  const received = [];
  const subscription = web.subscribe((event) => {
    received.push(describe(event));
    subscription.cancel();
  });
  await until(() => received.length > 0);
  await client.register(at(3));
  await web.wait(3, { timeout: 10_000 });
  assert.deepEqual(received, ['up 1']);
});

test('an exception of a callback is an uncaught exception, and no event is lost', async () => {
  const { code, out, err } = await run(`
    import { connect } from 'libdiscover';
    const client = await connect('memory://throwing');
    process.on('uncaughtException', (error) => console.log(error.message));
    await client.register({ service: 'web', address: '127.0.0.1:1' });
    let received = 0;
    client.services('web').subscribe((event) => {
      console.log(event.kind);
      if (++received === 3) {
        setImmediate(() => client.close());
      }
      throw new Error('thrown at ' + event.kind);
    });
  `);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.trim().split('\n');
  assert.deepEqual(lines.filter((line) => !line.startsWith('thrown')), ['up', 'leader', 'current']);
  assert.deepEqual(lines.filter((line) => line.startsWith('thrown')), ['thrown at up', 'thrown at leader', 'thrown at current']);
});

test('an exception of a callback ends a program without a handler', async () => {
  const { code, err } = await run(`
    import { connect } from 'libdiscover';
    const client = await connect('memory://throwing');
    client.services('web').subscribe(() => { throw new Error('oh no'); });
  `);
  assert.equal(code, 1);
  assert.match(err, /Error: oh no/);
});

test('a loop receives the same events, and leaving it ends the watch', async (t) => {
  const client = await open(t);
  await client.register(at(1));
  const watch = client.services('web').watch();
  const received = [];
  for await (const event of watch) {
    received.push(describe(event));
    if (event.kind === 'current') {
      break;
    }
  }
  assert.deepEqual(received, ['up 1', 'leader 1', 'current']);
  assert.deepEqual(await watch.next(), { done: true, value: undefined });
});

test('closing the client ends a loop', async () => {
  const client = await connect(memory());
  const received = [];
  const loop = (async () => {
    for await (const event of client.services('web').watch()) {
      received.push(describe(event));
    }
  })();
  await until(() => received.length === 1);
  await client.close();
  await loop;
  assert.deepEqual(received, ['current']);
  await assert.rejects(async () => {
    for await (const _ of client.services('web').watch()) {
      assert.fail();
    }
  }, { code: 'ERR_DISCOVER_CLOSED' });
});

test('aborting the signal makes a loop throw, as in node:events', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  const abort = new AbortController();
  const loop = (async () => {
    for await (const event of web.watch({ signal: abort.signal })) {
      assert.equal(event.kind, 'current');
    }
  })();
  await web.wait(0, { timeout: 10_000 });
  abort.abort();
  const aborted = { name: 'AbortError', code: 'ABORT_ERR', cause: abort.signal.reason };
  await assert.rejects(loop, aborted);
  await assert.rejects(web.watch({ signal: abort.signal }).next(), aborted);
  await assert.rejects(once(process, 'never', { signal: abort.signal }), aborted);
});

test('a watch is cancelled explicitly or at the end of its block', async (t) => {
  const client = await open(t);
  for (const end of [(watch) => watch.cancel(), (watch) => watch[Symbol.asyncDispose]()]) {
    const watch = client.services('web').watch();
    assert.equal((await watch.next()).value.kind, 'current');
    const waiting = watch.next();
    await end(watch);
    assert.deepEqual(await waiting, { done: true, value: undefined });
  }
});

test('several pending calls of next are answered in order', async (t) => {
  const client = await open(t);
  const watch = client.services('web').watch();
  const answers = [watch.next(), watch.next(), watch.next()];
  await client.register(at(1));
  const events = (await Promise.all(answers)).map((answer) => describe(answer.value));
  assert.deepEqual([...events].sort(), ['current', 'leader 1', 'up 1']);
  await watch.return();
});

test('a slow loop needs no queue: it receives the difference, and the latest state', async (t) => {
  const client = await open(t);
  const watch = client.services('web').watch();
  assert.equal((await watch.next()).value.kind, 'current');
  const lease = await client.register({ ...at(1), attributes: { n: '0' } });
  await client.services('web').wait(1, { timeout: 10_000 });
  assert.equal(describe((await watch.next()).value), 'up 1');
  assert.equal(describe((await watch.next()).value), 'leader 1');
  for (let n = 1; n <= 200; n += 1) {
    await lease.update({ n: String(n) });
  }
  let received = 0;
  for await (const event of watch) {
    received += 1;
    if (event.instance.attributes.n === '200') {
      break;
    }
  }
  assert.ok(received <= 3, `${received} events`);
});

test('many subscribers of one client share one doorbell', async (t) => {
  const client = await open(t);
  const counts = new Map();
  for (let n = 0; n < 100; n += 1) {
    client.services(`s${n % 10}`).subscribe((event) => {
      counts.set(n, (counts.get(n) ?? 0) + (event.kind === 'up' ? 1 : 0));
    });
  }
  for (let n = 0; n < 10; n += 1) {
    await client.register({ service: `s${n}`, address: '127.0.0.1:1' });
  }
  await until(() => [...counts.values()].reduce((sum, count) => sum + count, 0) === 100);
});

test('a large set is delivered in parts, complete and in order', async (t) => {
  const client = await open(t);
  const count = 2500;
  const register = (_, number) =>
    client.register({ service: 'web', host: '127.0.0.1', port: number + 1, attributes: { half: String(number % 2) } });
  await Promise.all(Array.from({ length: count }, register));
  const web = client.services('web');
  await web.wait(count, { timeout: 30_000 });
  const received = await new Promise((done) => {
    const all = [];
    const subscription = web.subscribe((event) => {
      all.push(event);
      if (event.kind === 'current') {
        subscription.cancel();
        done(all);
      }
    });
  });
  const instances = received.slice(0, count).map(({ instance }) => instance);
  assert.deepEqual(instances, web.online());
  assert.deepEqual(
    received.slice(count).map(({ kind }) => kind),
    ['leader', 'current'],
  );
  assert.ok(instances.every(({ port, attributes }) => attributes.half === String((port - 1) % 2)));
  // An instance that comes online between two parts is delivered after them.
  let ups = 0;
  for await (const { kind } of web.watch()) {
    ups += kind === 'up' ? 1 : 0;
    if (ups === 1 && kind === 'up') {
      await client.register({ service: 'web', host: '127.0.0.2', port: 1 });
      await until(() => web.online().length === count + 1);
    }
    if (ups === count + 1) {
      break;
    }
  }
});

test('losing the store emits stale, and the set keeps its contents', async (t) => {
  const client = await open(t, 'etcd://127.0.0.1:1?lazy=true');
  const web = client.services('web');
  for await (const event of web.watch()) {
    assert.equal(event.kind, 'stale');
    assert.equal(event.error.code, 'ERR_DISCOVER_UNAVAILABLE');
    assert.equal(event.error.retriable, true);
    break;
  }
  const { state, error, since } = web.status();
  assert.equal(state, 'pending');
  assert.equal(error.code, 'ERR_DISCOVER_UNAVAILABLE');
  assert.ok(since instanceof Date);
});
