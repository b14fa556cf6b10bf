// Prints the events of the service `web` until Enter is pressed: `watch`.

import { createInterface } from 'node:readline';
import { type DiscoverEvent, connect } from 'libdiscover';

async function main(): Promise<void> {
  // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
  const client = await connect();

  // Watch the service: first the full state, then `current`, then every change.
  const printing = printEvents(client.services('web').watch());

  // Events arrive while the program works.
  await enter();

  // Closing the client ends the loop.
  await client.close();
  await printing;
}

async function printEvents(events: AsyncIterable<DiscoverEvent>): Promise<void> {
  for await (const event of events) {
    switch (event.kind) {
      case 'up':
      case 'update':
      case 'down':
        console.log(`${event.kind} ${event.instance.address}`);
        break;
      case 'leader':
        console.log(`leader ${event.instance?.address ?? 'none'}`);
        break;
      case 'stale':
        console.log(`stale ${event.error.message}`);
        break;
      case 'current':
      case 'fresh':
        console.log(event.kind);
        break;
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
  console.error(`watch: ${error.message}`);
  process.exit(1);
});
