// The agent's page in a real browser: `node page.mjs URL BROWSER SCREENSHOT` says what it shows, a line of
// JSON at each turn. A line on standard input is the next turn: text for the filter, or `look`.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../bindings/node/package.json', import.meta.url));
const { chromium } = require('playwright-core');
const [url, executablePath, screenshot] = process.argv.slice(2);

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const page = await browser.newPage();
const asked = [];
const errors = [];
page.on('request', (request) => asked.push(new URL(request.url()).origin));
page.on('pageerror', (error) => errors.push(String(error)));
await page.goto(url);

const say = async () => {
  const text = await page.locator('main').innerText();
  const changes = await page.locator('#changes').innerText();
  const agent = await page.locator('#agent').innerText();
  const injected = await page.evaluate(() => document.querySelectorAll('main script, main img').length);
  const focused = await page.evaluate(() => document.activeElement.id);
  console.log(JSON.stringify({ text, changes, agent, injected, focused, asked: [...new Set(asked)], errors }));
};
await say();
for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'look') {
    // With the keyboard alone: the filter has the focus from the start.
    await page.keyboard.press('Control+A');
    await page.keyboard.type(line);
  }
  await say();
}
await page.screenshot({ path: screenshot });
await page.emulateMedia({ colorScheme: 'dark' });
await page.screenshot({ path: screenshot.replace('.png', '-dark.png') });
await browser.close();
