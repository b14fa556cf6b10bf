import { debuglog } from 'node:util';
import type * as Workers from 'node:worker_threads';
import { binding } from './binding';
import { call } from './errors';

let routed = false;

/**
 * Shows the library's log with `NODE_DEBUG=discover`. A process has one log, so the main thread shows
 * that of its workers too.
 */
export function routeLog(): void {
  const log = debuglog('discover');
  if (routed || !log.enabled || !isMainThread()) {
    return;
  }
  routed = true;
  call(() => binding.setLogTo((level, target, text) => log('%s %s: %s', level, target, text)));
  process.on('exit', () => call(() => binding.unsetLog()));
}

/** Node's module of workers takes longer to load than ours, and few have a log. */
function isMainThread(): boolean {
  return (require('node:worker_threads') as typeof Workers).isMainThread;
}
