/** Closing what is still open when the process exits, by itself or by `process.exit`. */

/** Also what holds a client that a program let go of, for its registrations are to stay. */
const open = new Map<object, () => void>();

export function closeAtExit(client: object, close: () => void): void {
  if (open.size === 0) {
    process.on('exit', closeAll);
  }
  open.set(client, close);
}

export function forget(client: object): void {
  if (open.delete(client) && open.size === 0) {
    process.off('exit', closeAll);
  }
}

function closeAll(): void {
  for (const close of open.values()) {
    try {
      close();
    } catch {
      // The store did not confirm in time, and the instances go with their ttl.
    }
  }
}
