import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from 'libdiscover';
import { memory, open, run, until } from './helpers.mjs';

const UNREACHABLE = 'etcd://127.0.0.1:1?lazy=true&ttl=1s';

test('a subscriber receives the current state of the connection', async (t) => {
  const client = await open(t);
  assert.deepEqual(client.connection(), { state: 'connected', error: null });
  const statuses = [];
  const subscription = client.onConnection((status) => statuses.push(status));
  await until(() => statuses.length > 0);
  assert.deepEqual(statuses, [{ state: 'connected', error: null }]);
  assert.ok(Object.isFrozen(statuses[0]) && Object.isFrozen(client.connection()));
  subscription.cancel();
});

test('a store that does not respond is reported with its cause', async () => {
  const client = await connect(UNREACHABLE);
  const statuses = [];
  client.onConnection((status) => statuses.push(status));
  const web = client.services('web');
  const watchedStates = [];
  const loop = (async () => {
    for await (const { state } of client.watchConnection()) {
      watchedStates.push(state);
    }
  })();
  // The callback and the loop have a feed each, so one may receive a state before the other.
  await until(() => statuses.at(-1)?.state === 'lost' && watchedStates.at(-1) === 'lost');
  assert.equal(statuses.at(-1).error.code, 'ERR_DISCOVER_UNAVAILABLE');
  assert.equal(client.connection().state, 'lost');
  assert.equal(web.online().length, 0);
  await client.close();
  await loop;
  const changes = (states) => states.filter((state) => state !== 'connected');
  assert.deepEqual(changes(statuses.map(({ state }) => state)), ['suspended', 'lost']);
  assert.deepEqual(changes(watchedStates), ['suspended', 'lost']);
});

test('a subscriber receives the standings of a lease until it is released', async (t) => {
  const client = await open(t);
  const lease = await client.register({ service: 'web', address: '127.0.0.1:1' });
  const statuses = [];
  lease.onStanding(({ standing }) => statuses.push(standing));
  await until(() => statuses.length > 0);
  await lease.unregister();
  await until(() => statuses.at(-1) === 'released');
  assert.deepEqual(statuses, ['live', 'released']);
});

test('shared attributes are adopted and reported', async (t) => {
  const client = await connect(`memory://shared-${process.pid}?layout=scalingo,native`);
  t.after(() => client.close());
  const attributes = { public: 'true', user: 'old', zone: 'eu' };
  const lease = await client.register({ service: 'api', address: 'h:1', attributes });
  assert.deepEqual(lease.attributes, attributes);
  const statuses = [];
  lease.onStanding(({ standing }) => statuses.push([standing, lease.attributes.user]));
  await until(() => statuses.length > 0);
  await client.register({ service: 'api', address: 'h:2', attributes: { ...attributes, user: 'new' } });
  await until(() => statuses.at(-1)[1] === 'new');
  assert.deepEqual(statuses.at(-1), ['live', 'new']);
  const both = await client.services('api').wait(2, { timeout: 10_000 });
  assert.deepEqual(both.map((one) => one.layouts), [['scalingo', 'native'], ['scalingo', 'native']]);
});

test('a lapsed lease is reported with its cause', async (t) => {
  const client = await open(t);
  const lease = await client.register({ service: 'web', address: '127.0.0.1:1', heartbeat: 'manual', ttl: 1_000 });
  const statuses = [];
  lease.onStanding((status) => statuses.push(status));
  await until(() => statuses.at(-1)?.standing === 'lapsed');
  assert.equal(statuses.at(-1).error.code, 'ERR_DISCOVER_LEASE_LOST');
  await lease.heartbeat();
  assert.ok(client.metrics().restored >= 1);
});

test('a cancelled subscription receives nothing more', async (t) => {
  const client = await open(t);
  const lease = await client.register({ service: 'web', address: '127.0.0.1:1' });
  const [statuses, other] = [[], []];
  const subscription = lease.onStanding(({ standing }) => {
    statuses.push(standing);
    subscription.cancel();
  });
  lease.onStanding(({ standing }) => other.push(standing));
  await until(() => statuses.length > 0 && other.length > 0);
  await lease.unregister();
  await until(() => other.at(-1) === 'released');
  assert.deepEqual(statuses, ['live']);
});

test('a subscription keeps the process alive until it ends', async () => {
  const { code, out, err } = await run(`
    import { connect } from 'libdiscover';
    const client = await connect('memory://alive');
    const lease = await client.register({ service: 'web', address: '127.0.0.1:1' });
    lease.onStanding(({ standing }) => {
      console.log(standing);
      if (standing === 'live') {
        lease.unregister();
      }
    });
    client.onConnection(({ state }) => console.log(state)).unref();
  `);
  assert.deepEqual([code, err], [0, '']);
  assert.deepEqual(out.trim().split('\n').sort(), ['connected', 'live', 'released']);
});

test('a wrong argument is rejected, and so is a call of a closed client', async () => {
  const client = await connect(memory());
  const lease = await client.register({ service: 'web', address: '127.0.0.1:1' });
  const refused = { code: 'ERR_DISCOVER_INVALID_ARGUMENT' };
  assert.throws(() => client.onConnection(), refused);
  assert.throws(() => lease.onStanding(7), refused);
  assert.throws(() => client.watchConnection({ signal: 1 }), refused);
  await client.close();
  const closed = { code: 'ERR_DISCOVER_CLOSED' };
  assert.throws(() => client.onConnection(() => {}), closed);
  assert.throws(() => lease.onStanding(() => {}), closed);
  assert.throws(() => client.connection(), closed);
});

test('counters are numbers that stay readable', async () => {
  const client = await connect(memory());
  const none = {
    reconnects: 0,
    relists: 0,
    resyncs: 0,
    duplicates: 0,
    mismatches: 0,
    invalid: 0,
    restored: 0,
    lagMs: 0,
  };
  assert.deepEqual(client.metrics(), none);
  assert.ok(Object.isFrozen(client.metrics()));
  await client.close();
  assert.equal(client.metrics().resyncs, 0);
});

test('a set has an epoch', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  assert.deepEqual([web.status().epoch, web.snapshot().epoch], [0, 0]);
});
