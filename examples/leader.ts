// Takes part in a leader election until Enter is pressed: `leader PORT`.

import { createInterface } from 'node:readline';
import { type DiscoverEvent, connect } from 'libdiscover';

async function main(): Promise<void> {
  if (process.argv.length !== 3) {
    throw new Error('usage: leader PORT');
  }
  const port = Number(process.argv[2]);

  // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
  const client = await connect();

  // Every registered instance is a candidate; the oldest instance leads.
  const lease = await client.register({ service: 'worker', host: '127.0.0.1', port });

  // The watch yields the current leader first, then each new one.
  const printing = printLeaders(client.services('worker').watch(), lease.address);

  // Do the leader's work, or wait to become the leader; here, until Enter.
  await enter();

  // Closing unregisters the instance, and the next oldest leads.
  await client.close();
  await printing;
}

async function printLeaders(events: AsyncIterable<DiscoverEvent>, ownAddress: string): Promise<void> {
  for await (const event of events) {
    if (event.kind === 'leader' && event.instance) {
      const { address } = event.instance;
      console.log(address === ownAddress ? 'leading' : `following ${address}`);
    }
  }
}

/** Waits for a line, or for the end of the input. */
async function enter(): Promise<void> {
  for await (const _line of createInterface({ input: process.stdin })) {
    break;
  }
  process.stdin.destroy(); // An open stdin keeps the process alive.
}

main().catch((error: Error) => {
  console.error(`leader: ${error.message}`);
  process.exit(1);
});
