import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rounds, run } from './helpers.mjs';

const ROUNDS = 10;

/** Runs a program with `client` and `web`, and expects exit code 0 and the output `out`. */
async function leaves(program, out) {
  const begin = `
    import { connect } from 'libdiscover';
    const client = await connect('memory://leaving');
    const web = client.services('web');
  `;
  const ended = await run(begin + program);
  assert.deepEqual(ended, { code: 0, signal: null, out, err: '' });
}

test('a program ends by itself once its client is closed', async () => {
  await leaves(
    `
    await client.register({ service: 'web', port: 1 });
    web.subscribe(() => {});
    const loop = (async () => { for await (const event of web.watch()); })();
    await web.wait(1, { timeout: 10_000 });
    await client.close();
    await loop;
    console.log('left');
    `,
    'left\n',
  );
});

test('a program that only registered ends by itself', async () => {
  await leaves(`await client.register({ service: 'web', port: 1 }); console.log('left');`, 'left\n');
});

test('a watch keeps the program alive', async () => {
  await leaves(
    `
    let received = 0;
    setTimeout(() => client.register({ service: 'web', port: 1 }), 200).unref(); // tidy: sleep, an idle period
    for await (const event of web.watch()) {
      console.log(event.kind);
      if (++received === 3) {
        break;
      }
    }
    `,
    'current\nup\nleader\n',
  );
});

test('a subscription keeps the program alive', async () => {
  await leaves(
    `
    setTimeout(() => client.register({ service: 'web', port: 1 }), 200).unref(); // tidy: sleep, an idle period
    const subscription = web.subscribe((event) => {
      console.log(event.kind);
      if (event.kind === 'leader') {
        subscription.cancel();
      }
    });
    `,
    'current\nup\nleader\n',
  );
});

test('a watch or a subscription that is not referenced lets the program end', async () => {
  await leaves(
    `
    web.subscribe(() => {}).unref();
    const watch = web.watch().unref();
    (async () => { for await (const event of watch); console.log('never'); })();
    const back = web.subscribe(() => {}).unref().ref();
    setTimeout(() => back.unref(), 100); // tidy: sleep, an idle period
    process.on('exit', () => console.log('left'));
    `,
    'left\n',
  );
});

test('a watch that was never iterated does not keep the process alive', async () => {
  await leaves(`web.watch(); console.log('left');`, 'left\n');
});

test('an aborted wait does not keep the process alive', async () => {
  await leaves(
    `
    const signal = AbortSignal.timeout(50);
    await web.wait(1, { timeout: 3_600_000, signal }).catch((error) => console.log(error.name));
    `,
    'AbortError\n',
  );
});

/** Busy subscriptions, calls in progress, and an instance that changes continuously. */
const BUSY = `
  const lease = await client.register({ service: 'web', port: 1 });
  for (let n = 0; n < 20; n += 1) {
    web.subscribe(() => web.online());
    (async () => { for await (const event of web.watch()); })();
    web.wait(9, { timeout: 60_000 }).catch(() => {});
  }
  (async () => { for (let n = 0; ; n += 1) await lease.update({ n: String(n) }); })().catch(() => {});
`;

test('process.exit with everything in progress is clean', async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const moment = round * 5;
    await leaves(`${BUSY} setTimeout(() => process.exit(0), ${moment});`, ''); // tidy: sleep, any moment
  }
});

/** Code that exits the process, by the place from which it does so. */
const HANDLERS = {
  'a callback': `web.subscribe((event) => event.kind === 'update' && process.exit(0));`,
  'a loop': `for await (const event of web.watch()) if (event.kind === 'update') process.exit(0);`,
  'the answer to a register': `client.register({ service: 'web', port: 2 }).then(() => process.exit(0));`,
  'the answer to a wait': `web.wait(1, { timeout: 10_000 }).then(() => process.exit(0));`,
  'the answer to a wait in vain': `web.wait(99, { timeout: 5 }).catch(() => process.exit(0));`,
  'the answer to a close': `client.close().then(() => process.exit(0));`,
  'a callback that it closes in': `web.subscribe(() => { client.close(); process.exit(0); });`,
};

for (const [handler, begin] of Object.entries(HANDLERS)) {
  test(`process.exit inside ${handler} is clean`, async () => {
    for (let round = 0; round < rounds(50); round += 1) {
      await leaves(`${BUSY} ${begin}`, '');
    }
  });
}

test('a program with hot watches that are not referenced ends by itself', async () => {
  for (let round = 0; round < rounds(100); round += 1) {
    await leaves(
      `
      const lease = await client.register({ service: 'web', port: 1 });
      let received = 0;
      for (let n = 0; n < 5; n += 1) {
        web.subscribe(() => (received += 1)).unref();
        const watch = web.watch().unref();
        (async () => { for await (const event of watch) received += 1; })();
      }
      let n = 0;
      setInterval(() => lease.update({ n: String((n += 1)) }).catch(() => {}), 1).unref(); // tidy: sleep, hot
      await new Promise((resolve) => setTimeout(resolve, ${round * 3 + 20})); // tidy: sleep, any moment
      process.on('exit', () => console.log(received > 0 ? 'left' : 'cold'));
      `,
      'left\n',
    );
  }
});

test('process.exit while opening or closing is clean', async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    await leaves(
      `${BUSY}
      connect('etcd://127.0.0.1:1').catch(() => {});
      client.close();
      setTimeout(() => process.exit(0), ${round}); // tidy: sleep, any moment`,
      '',
    );
  }
});

test('an uncaught exception with everything in progress ends with its own exit code', async () => {
  const program = `
    import { connect } from 'libdiscover';
    const client = await connect('memory://leaving');
    const web = client.services('web');
    ${BUSY}
    setTimeout(() => { throw new Error('oh no'); }, 10); // tidy: sleep, any moment
  `;
  const { code, signal } = await run(program);
  assert.deepEqual({ code, signal }, { code: 1, signal: null });
});
