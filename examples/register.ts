// Registers a service until Enter is pressed: `register PORT`.

import { createInterface } from 'node:readline';
import { connect } from 'libdiscover';

async function main(): Promise<void> {
  if (process.argv.length !== 3) {
    throw new Error('usage: register PORT');
  }
  const port = Number(process.argv[2]);

  // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
  const client = await connect();

  // Register an instance. When the promise resolves, other clients can see it.
  const lease = await client.register({
    service: 'web',
    host: '127.0.0.1',
    port,
    attributes: { zone: 'eu', version: '1' },
  });
  console.log(`registered web at ${lease.address}`);

  // The library keeps the instance alive while the program works.
  await enter();

  // Unregister: other clients see the instance go offline at once.
  await lease.unregister();
  console.log('unregistered');
  await client.close();
}

/** Waits for a line, or for the end of the input. */
async function enter(): Promise<void> {
  for await (const _line of createInterface({ input: process.stdin })) {
    break;
  }
  process.stdin.destroy(); // An open stdin keeps the process alive.
}

main().catch((error: Error) => {
  console.error(`register: ${error.message}`);
  process.exit(1);
});
