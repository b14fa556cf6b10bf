import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from 'libdiscover';
import { memory, open, run, describe, until } from './helpers.mjs';

const at = (port) => ({ service: 'web', host: '127.0.0.1', port });

test('a callback may subscribe and cancel without end', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  let generation = 0;
  const next = () => {
    const subscription = web.subscribe(() => {
      subscription.cancel();
      if (++generation < 200) {
        next();
      }
    });
  };
  next();
  await until(() => generation === 200);
});

test('a callback that subscribes to another service receives the events of both', async (t) => {
  const client = await open(t);
  const received = [];
  client.services('web').subscribe((event) => {
    if (event.kind === 'up') {
      client.services('db').subscribe((other) => received.push(describe(other)));
    }
  });
  await client.register({ service: 'db', host: '127.0.0.1', port: 2 });
  await client.register(at(1));
  await until(() => received.length === 3);
  assert.deepEqual(received, ['up 2', 'leader 2', 'current']);
});

test('a callback may close its client, and receives nothing afterwards', async () => {
  for (let round = 0; round < 20; round += 1) {
    const client = await connect(memory());
    const received = [];
    let closing;
    for (let n = 0; n < 5; n += 1) {
      client.services('web').subscribe((event) => {
        received.push(event.kind);
        closing ??= client.close();
      });
    }
    await client.register(at(1)).catch(() => {});
    await until(() => received.length > 0);
    await closing;
    assert.equal(received.length, 1);
    await client.close();
  }
});

test('concurrent closes, inside callbacks and outside, close the client once', async () => {
  const client = await connect(memory());
  const closings = [];
  client.services('web').subscribe(() => closings.push(client.close()));
  await until(() => closings.length > 0);
  closings.push(...Array.from({ length: 8 }, () => client.close()));
  await Promise.all(closings);
});

test('a callback whose promise never settles blocks nothing', async () => {
  const client = await connect(memory());
  const received = [];
  client.services('web').subscribe((event) => {
    received.push(event.kind);
    return new Promise(() => {});
  });
  await client.register(at(1));
  await until(() => received.includes('leader'));
  await client.close();
});

test('an exception of an asynchronous callback is one unhandled rejection for each event', async () => {
  const { code, out, err } = await run(`
    import { connect } from 'libdiscover';
    const client = await connect('memory://rejecting');
    process.on('unhandledRejection', (error) => console.log(error.message));
    await client.register({ service: 'web', address: '127.0.0.1:1' });
    let received = 0;
    client.services('web').subscribe(async (event) => {
      if (++received === 3) {
        setImmediate(() => client.close());
      }
      throw new Error('thrown at ' + event.kind);
    });
  `);
  assert.deepEqual([code, err], [0, '']);
  assert.equal(out, 'thrown at up\nthrown at leader\nthrown at current\n');
});

test('one callback that throws does not stop another', async () => {
  const { code, out, err } = await run(`
    import { connect } from 'libdiscover';
    const client = await connect('memory://throwing');
    let thrown = 0;
    process.on('uncaughtException', () => { thrown += 1; });
    const web = client.services('web');
    web.subscribe(() => { throw new Error('oh no'); });
    const callbacks = {};
    const receives = (kind) => new Promise((done) => (callbacks[kind] = done));
    const [up, down] = [receives('up'), receives('down')];
    web.subscribe((event) => callbacks[event.kind]?.());
    const lease = await client.register({ service: 'web', port: 1 });
    // An instance that comes online and goes offline between two reads emits no event.
    await up;
    await lease.unregister();
    await down;
    await client.close();
    console.log(thrown > 0);
  `);
  assert.deepEqual([code, out, err], [0, 'true\n', '']);
});
