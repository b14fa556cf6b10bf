// What a person sees on the agent's page, in a headless Chromium.
//
//   node page.mjs PAGE-URL REGISTRY-URL DISCOVERD CHROMIUM SCREENSHOT AGENT-PID
//   node token.mjs PAGE-URL TOKEN CHROMIUM
//
// Each sentence that holds is printed; the first that does not ends it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chromium } from "playwright-core";

const [url, registry, discoverd, executablePath, screenshot, agent] = process.argv.slice(2);
const PATIENCE = 30_000;
const children = [];

function register(...words) {
  const child = spawn(discoverd, ["register", "--url", registry, ...words], { stdio: "ignore" });
  children.push(child);
  return child;
}

// `fetch` may not choose a host or an origin, and this needs neither.
async function put(path, body) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(url + path, { method: "PUT", headers, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status} ${await answer.text()}`);
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 800 }, colorScheme: "dark" });
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (line) => line.type() === "error" && wrong.push(line.text()));
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  const holds = (sentence) => console.log(`ok ${sentence}`);
  const box = (service) => page.locator(`section[data-service="${service}"]`);
  const line = (service, id) => box(service).locator(`tr[data-id="${id}"]`);
  const changes = page.locator("#changes");

  register("web", "10.0.0.1:80", "-a", "zone=eu", "-t", "blue");
  const answer = await page.goto(url);
  const policy = answer.headers()["content-security-policy"];
  assert.match(policy, /default-src 'none'/);
  assert.ok(!policy.includes("unsafe"), policy);
  await page.locator("#link", { hasText: /^live$/ }).waitFor();
  await line("web", "10.0.0.1:80").getByText("zone=eu").waitFor();
  await line("web", "10.0.0.1:80").getByText("leader").waitFor();
  holds("who is there is shown with attributes, tags and leader");

  const second = register("web", "10.0.0.2:80", "-a", "note=<b>not bold</b>");
  await line("web", "10.0.0.2:80").getByText("note=<b>not bold</b>").waitFor();
  await changes.getByText("10.0.0.2:80").first().waitFor();
  holds("who comes is shown, and noted, and what strangers write is text");

  register("own", "10.0.0.7:1", "-a", "health=draining");
  await line("own", "10.0.0.7:1").getByText("draining", { exact: true }).waitFor();
  holds("who says by itself how it is, is shown so");

  register("db", "10.0.0.9:5432");
  await line("db", "10.0.0.9:5432").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("zone=eu");
  await box("db").waitFor({ state: "detached" });
  await line("web", "10.0.0.2:80").waitFor({ state: "detached" });
  await line("web", "10.0.0.1:80").waitFor();
  await page.keyboard.press("Escape");
  await line("db", "10.0.0.9:5432").waitFor();
  holds("the filter is reached and left by the keyboard, and narrows what is shown");

  await put("v1/services/sick/instances/10.0.0.5:1", { check: { ttl: "60s" } });
  await line("sick", "10.0.0.5:1").getByText("critical").waitFor();
  await put("v1/maintenance", { mode: "maintenance", service: "db" });
  await line("db", "10.0.0.9:5432").getByText("maintenance").waitFor();
  holds("those that others do not see are shown with the reason");

  second.kill("SIGTERM");
  await line("web", "10.0.0.2:80").waitFor({ state: "detached" });
  await changes.getByText("down").first().waitFor();
  holds("who goes is gone, and noted");

  await page.screenshot({ path: screenshot, fullPage: true });
  await page.emulateMedia({ colorScheme: "light" });
  const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.notEqual(light, dark);
  holds("it follows the colours of the system");

  assert.deepEqual(asked.filter((one) => !one.startsWith(url)), []);
  assert.deepEqual(wrong, []);
  holds("it asks nobody but the agent, and nothing is refused by its own policy");

  process.kill(Number(agent), "SIGKILL");
  await page.locator("#link", { hasText: "not live" }).waitFor();
  await box("web").getByText("stale").waitFor();
  await line("web", "10.0.0.1:80").waitFor();
  holds("when the agent is gone, what was known stays and is called stale");
} finally {
  children.forEach((child) => child.kill("SIGKILL"));
  await browser.close();
}
