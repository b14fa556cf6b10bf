import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { connect } from 'libdiscover';
import { memory, open, run, told, until } from './help.mjs';

const at = (port) => ({ service: 'web', host: '127.0.0.1', port });

test('a callback hears the whole state, then current, then changes', async (t) => {
  const client = await open(t);
  await client.register(at(1));
  const heard = [];
  const subscription = client.services('web').subscribe((event) => heard.push(event));
  await until(() => heard.some((event) => event.kind === 'current'));
  const lease = await client.register(at(2));
  await until(() => heard.length === 4);
  await lease.update({ a: '1' });
  await until(() => heard.length === 5);
  await lease.unregister();
  await until(() => heard.length === 6);
  assert.deepEqual(heard.map(told), ['up 1', 'leader 1', 'current', 'up 2', 'update 2', 'down 2']);
  assert.ok(heard.every((event) => Object.isFrozen(event)));
  subscription.cancel();
  await client.register(at(3));
  await client.services('web').wait(2, { timeout: 10_000 });
  assert.equal(heard.length, 6);
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

test('a callback may cancel itself, and hears no more of the same batch', async (t) => {
  const client = await open(t);
  await client.register(at(1));
  await client.register(at(2));
  const web = client.services('web');
  await web.wait(2, { timeout: 10_000 });
  const heard = [];
  const subscription = web.subscribe((event) => {
    heard.push(told(event));
    subscription.cancel();
  });
  await until(() => heard.length > 0);
  await client.register(at(3));
  await web.wait(3, { timeout: 10_000 });
  assert.deepEqual(heard, ['up 1']);
});

test('what a callback throws is an uncaught exception, and nothing is lost', async () => {
  const { code, out, err } = await run(`
    import { connect } from 'libdiscover';
    const client = await connect('memory://throwing');
    process.on('uncaughtException', (error) => console.log(error.message));
    await client.register({ service: 'web', address: '127.0.0.1:1' });
    let heard = 0;
    client.services('web').subscribe((event) => {
      console.log(event.kind);
      if (++heard === 3) {
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

test('what a callback throws ends a program that does not say otherwise', async () => {
  const { code, err } = await run(`
    import { connect } from 'libdiscover';
    const client = await connect('memory://throwing');
    client.services('web').subscribe(() => { throw new Error('oh no'); });
  `);
  assert.equal(code, 1);
  assert.match(err, /Error: oh no/);
});

test('a loop hears the same, and leaving it ends the watch', async (t) => {
  const client = await open(t);
  await client.register(at(1));
  const watch = client.services('web').watch();
  const heard = [];
  for await (const event of watch) {
    heard.push(told(event));
    if (event.kind === 'current') {
      break;
    }
  }
  assert.deepEqual(heard, ['up 1', 'leader 1', 'current']);
  assert.deepEqual(await watch.next(), { done: true, value: undefined });
});

test('closing the client ends a loop', async () => {
  const client = await connect(memory());
  const heard = [];
  const loop = (async () => {
    for await (const event of client.services('web').watch()) {
      heard.push(told(event));
    }
  })();
  await until(() => heard.length === 1);
  await client.close();
  await loop;
  assert.deepEqual(heard, ['current']);
  await assert.rejects(async () => {
    for await (const _ of client.services('web').watch()) {
      assert.fail();
    }
  }, { code: 'ERR_DISCOVER_CLOSED' });
});

test('aborting its signal makes a loop throw as those of node:events do', async (t) => {
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

test('a watch is cancelled by hand or at the end of its block', async (t) => {
  const client = await open(t);
  for (const end of [(watch) => watch.cancel(), (watch) => watch[Symbol.asyncDispose]()]) {
    const watch = client.services('web').watch();
    assert.equal((await watch.next()).value.kind, 'current');
    const waiting = watch.next();
    await end(watch);
    assert.deepEqual(await waiting, { done: true, value: undefined });
  }
});

test('questions asked ahead are answered in order', async (t) => {
  const client = await open(t);
  const watch = client.services('web').watch();
  const answers = [watch.next(), watch.next(), watch.next()];
  await client.register(at(1));
  const events = (await Promise.all(answers)).map((answer) => told(answer.value));
  assert.deepEqual([...events].sort(), ['current', 'leader 1', 'up 1']);
  await watch.return();
});

test('a slow loop costs no queue: it hears the difference, and the last state', async (t) => {
  const client = await open(t);
  const watch = client.services('web').watch();
  assert.equal((await watch.next()).value.kind, 'current');
  const lease = await client.register({ ...at(1), attributes: { n: '0' } });
  await client.services('web').wait(1, { timeout: 10_000 });
  assert.equal(told((await watch.next()).value), 'up 1');
  assert.equal(told((await watch.next()).value), 'leader 1');
  for (let n = 1; n <= 200; n += 1) {
    await lease.update({ n: String(n) });
  }
  let heard = 0;
  for await (const event of watch) {
    heard += 1;
    if (event.instance.attributes.n === '200') {
      break;
    }
  }
  assert.ok(heard <= 3, `${heard} events`);
});

test('many listeners of one client all hear, through one doorbell', async (t) => {
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

test('a large set comes across in pieces, whole and in order', async (t) => {
  const client = await open(t);
  const count = 2500;
  const register = (_, number) =>
    client.register({ service: 'web', host: '127.0.0.1', port: number + 1, attributes: { half: String(number % 2) } });
  await Promise.all(Array.from({ length: count }, register));
  const web = client.services('web');
  await web.wait(count, { timeout: 30_000 });
  const heard = await new Promise((done) => {
    const all = [];
    const subscription = web.subscribe((event) => {
      all.push(event);
      if (event.kind === 'current') {
        subscription.cancel();
        done(all);
      }
    });
  });
  const instances = heard.slice(0, count).map(({ instance }) => instance);
  assert.deepEqual(instances, web.online());
  assert.deepEqual(
    heard.slice(count).map(({ kind }) => kind),
    ['leader', 'current'],
  );
  assert.ok(instances.every(({ port, attributes }) => attributes.half === String((port - 1) % 2)));
  // One that comes between two pieces is heard after them.
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

test('losing the store is told as stale, and the set is kept', async (t) => {
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
