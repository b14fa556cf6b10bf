import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Descriptor, DiscoverError } from 'libdiscover';
import { TEST_FOLDER, open } from './helpers.mjs';

const TABLE = readFileSync(join(TEST_FOLDER, '../../../tests/fixtures/descriptors.tsv'), 'utf8');

/** Returns the rows of one kind, without the column of the kind. */
function rows(kind) {
  const lines = TABLE.split('\n').map((line) => line.split('\t'));
  const mine = lines.filter(([first]) => first === kind).map((fields) => fields.slice(1));
  assert.ok(mine.length > 0);
  return mine;
}

const VARIABLES = Object.fromEntries([...rows('variable'), ...rows('other')]);
const FOUND = rows('variable').map(([, , name, text]) => [name, text]);
FOUND.sort(([a], [b]) => (a < b ? -1 : 1));

const texts = (found) => [...found].map(([name, one]) => [name, `${one}`]);
const refused = (message) => (error) =>
  error instanceof DiscoverError && error.code === 'ERR_DISCOVER_INVALID_ARGUMENT' && error.message === message;

test('valid descriptors are parsed and printed', () => {
  for (const [text, service, path, tags, port, protocol, printed] of rows('good')) {
    const read = Descriptor.parse(text);
    assert.deepEqual({ ...read }, {
      service,
      path: path === '' ? null : path,
      tags: tags === '' ? [] : tags.split(','),
      port: Number(port),
      protocol,
    });
    assert.equal(read.toString(), printed);
    assert.ok(Object.isFrozen(read) && Object.isFrozen(read.tags));
  }
});

test('malformed descriptors are refused with the position and what is expected there', () => {
  for (const [text, message] of rows('bad')) {
    assert.throws(() => Descriptor.parse(text), refused(message));
  }
});

test('descriptors are read from the environment', (t) => {
  t.after(() => Object.keys(VARIABLES).forEach((name) => delete process.env[name]));
  Object.assign(process.env, VARIABLES);
  assert.deepEqual(texts(Descriptor.fromEnv('BACKEND_')), FOUND);
  assert.deepEqual(texts(Descriptor.fromPairs('BACKEND_', VARIABLES)), FOUND);
  assert.equal(Descriptor.fromEnv('FRONTEND_').size, 0);
});

test('a malformed variable is skipped', () => {
  for (const [variable, value] of rows('wrong')) {
    assert.deepEqual(texts(Descriptor.fromPairs('BACKEND_', { ...VARIABLES, [variable]: value })), FOUND);
  }
});

test('a value that is not a string is refused', () => {
  const code = { code: 'ERR_DISCOVER_INVALID_ARGUMENT' };
  assert.throws(() => Descriptor.parse(80), code);
  assert.throws(() => Descriptor.fromEnv(''), code);
  assert.throws(() => Descriptor.fromPairs('BACKEND_', { BACKEND_WEB: 80 }), code);
});

test('a descriptor selects the instances of its service that have its tags', async (t) => {
  const client = await open(t);
  const wanted = Descriptor.parse('/services/prod/web[prod,blue];80');
  await client.register({ service: 'web', address: 'h:1', tags: ['blue', 'green', 'prod'] });
  await client.register({ service: 'web', address: 'h:2', tags: ['prod'] });
  const web = client.services(wanted.service);
  await web.wait(2, { timeout: 30_000 });
  const found = web.filter({ tags: wanted.tags }).online();
  assert.deepEqual(found.map((instance) => instance.port), [1]);
});
