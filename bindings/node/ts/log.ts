import { debuglog } from 'node:util';
import type * as Workers from 'node:worker_threads';
import { binding } from './binding';
import { call } from './errors';

let isRouted = false;

/**
 * Writes the library's log to stderr if `NODE_DEBUG` contains `discover`. A process has one log, so the main
 * thread also writes the log of its workers.
 */
export function routeLog(): void {
  const log = debuglog('discover');
  if (isRouted || !log.enabled || !isMainThread()) {
    return;
  }
  isRouted = true;
  call(() => binding.setLogTo((level, target, text) => log('%s %s: %s', level, target, text)));
  process.on('exit', () => call(() => binding.unsetLog()));
}

/** Loads `node:worker_threads` only if a log is wanted, because loading it takes longer than loading the library. */
function isMainThread(): boolean {
  return (require('node:worker_threads') as typeof Workers).isMainThread;
}
