/** Closes the open clients when the process exits, by itself or by `process.exit`. */

/** The open clients. The map also keeps a client alive that the program does not reference any more. */
const openClients = new Map<object, () => void>();

export function closeAtExit(client: object, close: () => void): void {
  if (openClients.size === 0) {
    process.on('exit', closeAll);
  }
  openClients.set(client, close);
}

export function removeFromExit(client: object): void {
  if (openClients.delete(client) && openClients.size === 0) {
    process.off('exit', closeAll);
  }
}

function closeAll(): void {
  for (const close of openClients.values()) {
    try {
      close();
    } catch {
      // The store did not confirm in time: the instances expire with their TTL.
    }
  }
}
