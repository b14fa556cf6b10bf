// Runs the scenario of `story.txt` in Node: `story URL`.

import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type Client, type DiscoverEvent, type Instance, type Lease, connect } from 'libdiscover';

const EVENT_TIMEOUT_MS = 30_000;

async function main(words: string[]): Promise<void> {
  const [url, role, service, address] = words;
  if (url !== undefined && words.length === 1) {
    await runScenario(url);
  } else if (url !== undefined && role === 'member' && service !== undefined) {
    await runMember(url, service, address);
  } else {
    throw new Error('usage: story URL');
  }
}

async function runScenario(url: string): Promise<void> {
  const runner = new ScenarioRunner(url);
  const story = readFileSync(process.env['STORY'] ?? 'tests/story/story.txt', 'utf8');
  for (const line of story.split('\n').map((text) => text.trim())) {
    const isMultiProcess = line.startsWith('+ ');
    if (line === '' || line.startsWith('#') || (isMultiProcess && url.startsWith('memory:'))) {
      continue;
    }
    const step = isMultiProcess ? line.slice(2) : line;
    await runner.step(step.split(/\s+/)).catch((error: Error) => {
      throw new Error(`${step}: ${error.message}`);
    });
  }
}

class ScenarioRunner {
  readonly #url: string;
  readonly #received: string[] = [];
  readonly #notifier = new EventEmitter();
  #client!: Client;
  #lease!: Lease;
  #member!: ChildProcess;

  constructor(url: string) {
    this.#url = url;
  }

  async step([verb, ...words]: string[]): Promise<void> {
    const [service = '', address = ''] = words;
    switch (verb) {
      case 'open':
        this.#client = await connect(this.#url);
        break;
      case 'watch':
        this.#client.services(service).subscribe((event) => {
          this.#received.push(text(event));
          this.#notifier.emit('event');
        });
        break;
      case 'register':
        this.#lease = await this.#client.register({ service, address, attributes: parse(words.slice(2)) });
        break;
      case 'update':
        await this.#lease.update(parse(words));
        break;
      case 'unregister':
        await this.#lease.unregister();
        break;
      case 'spawn':
        this.#member = await spawnMember(this.#url, service, address);
        break;
      case 'kill':
        this.#member.kill('SIGKILL');
        break;
      case 'close':
        await this.#client.close();
        break;
      case 'hear':
        console.log(await this.#nextEvent());
        break;
      case 'silence':
        console.log(this.#received.length === 0 ? 'silence' : this.#received.join('\n'));
        break;
      default:
        throw new Error('no such step');
    }
  }

  async #nextEvent(): Promise<string> {
    const signal = AbortSignal.timeout(EVENT_TIMEOUT_MS);
    while (this.#received.length === 0) {
      await once(this.#notifier, 'event', { signal }).catch(() => {
        throw new Error('no event within 30 s');
      });
    }
    return this.#received.shift() ?? '';
  }
}

function parse(words: string[]): Record<string, string> {
  return Object.fromEntries(words.map((word) => word.split('=', 2)));
}

function text(event: DiscoverEvent): string {
  switch (event.kind) {
    case 'up':
    case 'update':
    case 'down':
      return `${event.kind} ${describe(event.instance)}`;
    case 'leader':
      return `leader ${event.instance ? describe(event.instance) : '-'}`;
    case 'current':
    case 'stale':
    case 'fresh':
      return event.kind;
  }
}

function describe({ address, attributes }: Instance): string {
  const pairs = Object.entries(attributes).map(([name, value]) => `${name}=${value}`);
  return [address, ...pairs.sort()].join(' ');
}

async function spawnMember(url: string, service: string, address: string): Promise<ChildProcess> {
  const words = [__filename, url, 'member', service, address];
  const member = spawn(process.execPath, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(member.stdout, 'data');
  if (String(line).trim() !== 'ready') {
    throw new Error('the member is not ready');
  }
  return member;
}

async function runMember(url: string, service: string, address: string | undefined): Promise<void> {
  const client = await connect(url);
  await client.register({ service, address });
  console.log('ready');
  // A registration alone keeps no process alive; this does, until the runner exits.
  process.stdin.resume();
}

main(process.argv.slice(2)).catch((error: Error) => {
  console.error(`story: ${error.message}`);
  process.exit(1);
});
