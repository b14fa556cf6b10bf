import { debuglog } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import { binding } from './binding';
import { call } from './errors';

let routed = false;

/**
 * Shows the library's log with `NODE_DEBUG=discover`. A process has one log, so the main thread shows
 * that of its workers too.
 */
export function routeLog(): void {
  const log = debuglog('discover');
  if (routed || !isMainThread || !log.enabled) {
    return;
  }
  routed = true;
  call(() => binding.setLogTo((level, target, text) => log('%s %s: %s', level, target, text)));
  process.on('exit', () => call(() => binding.unsetLog()));
}
