import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, DiscoverError, Lease, connect } from 'libdiscover';
import { memory, open, until } from './helpers.mjs';

const refused = (text) => (error) => {
  assert.ok(error instanceof DiscoverError, error);
  assert.equal(error.code, 'ERR_DISCOVER_INVALID_ARGUMENT');
  assert.ok(error.message.includes(text), `${error.message} has no ${text}`);
  return true;
};

test('a client shows its URL with the password redacted', async (t) => {
  const url = memory();
  const client = await open(t, url);
  assert.ok(client instanceof Client);
  assert.equal(client.url, url);
  const secret = await open(t, 'etcd://me:hunter2@127.0.0.1:1?lazy=true');
  assert.equal(secret.url, 'etcd://me:***@127.0.0.1:1?lazy=true');
});

test('without a URL the environment is used', async (t) => {
  t.after(() => delete process.env.DISCOVER_URL);
  process.env.DISCOVER_URL = memory();
  const client = await connect();
  assert.equal(client.url, process.env.DISCOVER_URL);
  await client.close();
});

test('a registered instance is online with all its fields', async (t) => {
  const client = await open(t);
  const lease = await client.register({
    service: 'web',
    port: 80,
    host: '::1',
    attributes: { zone: 'eu', weight: '7', empty: '' },
    tags: ['x', 'y'],
    ttl: 5_000,
    timeout: 10_000,
  });
  assert.ok(lease instanceof Lease);
  assert.deepEqual([lease.service, lease.id, lease.address], ['web', '[::1]:80', '[::1]:80']);
  assert.deepEqual([lease.standing, lease.error], ['live', null]);
  assert.deepEqual(lease.attributes, { zone: 'eu', weight: '7', empty: '' });
  const [instance] = await client.services('web').wait(1, { timeout: 10_000 });
  const { created, ...rest } = instance;
  assert.ok(Number.isSafeInteger(created));
  assert.deepEqual(rest, {
    service: 'web',
    id: '[::1]:80',
    host: '::1',
    port: 80,
    address: '[::1]:80',
    attributes: { zone: 'eu', weight: '7', empty: '' },
    tags: ['x', 'y'],
    layouts: ['native'],
    weight: 7,
    zone: 'eu',
    isSuspect: false,
  });
});

test('an attribute may have any name, __proto__ too', async (t) => {
  const client = await open(t);
  const attributes = JSON.parse('{ "__proto__": "p" }');
  await client.register({ service: 'web', address: '127.0.0.1:1', attributes });
  const [instance] = await client.services('web').wait(1, { timeout: 10_000 });
  assert.deepEqual(Object.entries(instance.attributes), [['__proto__', 'p']]);
});

test('update replaces the attributes, unregister removes the instance, and a second unregister has no effect', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  const lease = await client.register({ service: 'web', address: '127.0.0.1:1', attributes: { a: '1' } });
  await lease.update({ b: '2' });
  await until(() => web.leader()?.attributes.b === '2');
  assert.deepEqual({ ...web.leader().attributes }, { b: '2' });
  await lease.unregister();
  await lease.unregister();
  assert.equal(lease.standing, 'released');
  await until(() => web.online().length === 0 && web.offline().length === 1);
});

test('a manual registration lapses without heartbeats', async (t) => {
  const client = await open(t);
  const options = { service: 'web', address: '127.0.0.1:1', heartbeat: 'manual', ttl: 1_000 };
  const lease = await client.register(options);
  await lease.heartbeat();
  assert.equal(lease.standing, 'live');
  await until(() => lease.standing === 'lapsed');
  assert.equal(lease.error.code, 'ERR_DISCOVER_LEASE_LOST');
  await lease.heartbeat();
  assert.deepEqual([lease.standing, lease.error], ['live', null]);
});

test('a lease and a client are closed at the end of their block', async () => {
  const url = memory();
  const client = await connect(url);
  const other = await connect(url);
  const lease = await client.register({ service: 'web', address: '127.0.0.1:1' });
  await lease[Symbol.asyncDispose]();
  assert.equal(lease.standing, 'released');
  await client.register({ service: 'web', address: '127.0.0.1:2' });
  const web = other.services('web');
  await web.wait(1, { timeout: 10_000 });
  await client[Symbol.asyncDispose]();
  await until(() => web.online().length === 0);
  await other.close();
});

test('a closed client refuses calls, and closing again has no effect', async () => {
  const client = await connect(memory());
  const lease = await client.register({ service: 'web', address: '127.0.0.1:1' });
  await Promise.all([client.close(), client.close()]);
  await client.close({ timeout: 100 });
  const closed = { name: 'DiscoverError', code: 'ERR_DISCOVER_CLOSED', retriable: false };
  assert.equal(lease.standing, 'released');
  assert.throws(() => client.services('web'), closed);
  assert.throws(() => client.url, closed);
  await assert.rejects(client.register({ service: 'web', port: 1 }), closed);
  await assert.rejects(lease.update({}), closed);
});

test('calls in progress end when the client is closed', async () => {
  const client = await connect(memory());
  const waiting = client.services('web').wait(1, { timeout: 60_000 });
  const ended = assert.rejects(waiting, { code: 'ERR_DISCOVER_CLOSED' });
  await client.close();
  await ended;
});

test('the stack of an error contains the caller', async (t) => {
  const client = await open(t);
  async function here() {
    await client.services('web').wait(1, { timeout: 1 });
  }
  await assert.rejects(here, (error) => /at async here/.test(error.stack));
});

test('an invalid URL is rejected with its cause', async () => {
  await assert.rejects(connect('zoo://x'), refused('unknown scheme "zoo"'));
  await assert.rejects(connect('memory://x?tll=1s'), refused('no option "tll"'));
  await assert.rejects(connect('nonsense'), refused('no scheme'));
  await assert.rejects(connect(5), refused('url is 5; it must be a string'));
});

test('an invalid registration is rejected with the name of the argument', async (t) => {
  const client = await open(t);
  const wrong = [
    [undefined, 'options is undefined; it must be a plain object'],
    [{ port: 1 }, 'service is undefined; it must be a string'],
    [{ service: 'a/b', port: 1 }, 'service name "a/b"'],
    [{ service: 'web', port: 80.5 }, 'port is 80.5; it must be a whole number'],
    [{ service: 'web', port: '80' }, "port is '80'; it must be a whole number"],
    [{ service: 'web', port: 70_000 }, 'port 70000 is not in 1 to 65535'],
    [{ service: 'web', port: -1 }, 'port -1 is not in 1 to 65535'],
    [{ service: 'web', port: 2 ** 40 }, 'port 1099511627776 is not in 1 to 65535'],
    [{ service: 'web' }, 'give either port'],
    [{ service: 'web', port: 1, address: 'h:1' }, 'give either port'],
    [{ service: 'web', address: 'h' }, 'has no port'],
    [{ service: 'web', port: 1, host: 'a b' }, 'host "a b"'],
    [{ service: 'web', port: 1, id: '' }, 'id has 0 bytes'],
    [{ service: 'web', port: 1, id: 'a' }, 'id "a"'],
    [{ service: 'web', port: 1, attributes: { a: 1 } }, 'attributes.a is 1; it must be a string'],
    [{ service: 'web', port: 1, attributes: [] }, 'attributes is []; it must be a plain object'],
    [{ service: 'web', port: 1, attributes: new Map([['a', 'b']]) }, 'it must be a plain object'],
    [{ service: 'web', port: 1, attributes: new (class Zone {})() }, 'attributes is Zone {}; it must be a plain object'],
    [new Map(), 'options is Map(0) {}; it must be a plain object'],
    [{ service: 'web', port: 1, attributes: { weight: 'x' } }, 'attribute weight is "x"'],
    [{ service: 'web', port: 1, tags: 'x' }, "tags is 'x'; it must be an array of strings"],
    [{ service: 'web', port: 1, tags: [1] }, 'tags[0] is 1; it must be a string'],
    [{ service: 'web', port: 1, ttl: 5 }, '1s to 24h'],
    [{ service: 'web', port: 1, ttl: -5 }, 'ttl is -5; it must be a number of milliseconds'],
    [{ service: 'web', port: 1, ttl: Infinity }, 'ttl is Infinity'],
    [{ service: 'web', port: 1, heartbeat: 'never' }, 'one of automatic, manual'],
    [{ service: 'web', port: 1, timeout: 'soon' }, "timeout is 'soon'"],
    [{ service: 'web', port: 1, atributes: {} }, 'no option atributes; it has service, port'],
  ];
  for (const [options, text] of wrong) {
    await assert.rejects(client.register(options), refused(text));
  }
});

test('an invalid argument is rejected with its name', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  assert.throws(() => client.services('a b'), refused('service name'));
  assert.throws(() => client.services(), refused('service is undefined'));
  assert.throws(() => web.filter({ zone: 'eu' }), refused('no option zone; it has attributes, tags'));
  assert.throws(() => web.pick('best'), refused('unknown policy "best"; known are round_robin'));
  assert.throws(() => web.pick('hash'), refused('needs a key'));
  assert.throws(() => web.subscribe(), refused('callback is undefined; it must be a function'));
  assert.throws(() => web.watch({ signal: 1 }), refused('signal is 1; it must be an AbortSignal'));
  await assert.rejects(web.wait(1), refused('options is undefined'));
  await assert.rejects(web.wait(-1, { timeout: 1 }), refused('count is -1'));
  await assert.rejects(web.wait(1, { timeout: NaN }), refused('timeout is NaN'));
  await assert.rejects(client.close({ timeout: '1' }), refused("timeout is '1'"));
});
