// Tests the web page of the agent in a headless Chromium.
//
//   node page.mjs PAGE-URL REGISTRY-URL DISCOVERD CHROMIUM SCREENSHOT AGENT-PID
//   node token.mjs PAGE-URL TOKEN CHROMIUM
//
// Prints one line for each check that passes, and exits at the first that fails.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chromium } from "playwright-core";

const [url, registry, discoverd, executablePath, screenshot, agent] = process.argv.slice(2);
const TIMEOUT_MS = 30_000;
const children = [];

function register(...words) {
  const child = spawn(discoverd, ["register", "--url", registry, ...words], { stdio: "ignore" });
  children.push(child);
  return child;
}

// `fetch` cannot set Host or Origin, which the agent does not need here.
async function put(path, body) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(url + path, { method: "PUT", headers, body: JSON.stringify(body) });
  assert.ok(response.ok, `${path}: ${response.status} ${await response.text()}`);
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 800 }, colorScheme: "dark" });
  page.setDefaultTimeout(TIMEOUT_MS);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (line) => line.type() === "error" && errors.push(line.text()));
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  const passed = (sentence) => console.log(`ok ${sentence}`);
  const box = (service) => page.locator(`section[data-service="${service}"]`);
  const line = (service, id) => box(service).locator(`tr[data-id="${id}"]`);
  const changes = page.locator("#changes");

  register("web", "10.0.0.1:80", "-a", "zone=eu", "-t", "blue");
  const response = await page.goto(url);
  const policy = response.headers()["content-security-policy"];
  assert.match(policy, /default-src 'none'/);
  assert.ok(!policy.includes("unsafe"), policy);
  await page.locator("#connection", { hasText: /^live$/ }).waitFor();
  await line("web", "10.0.0.1:80").getByText("zone=eu").waitFor();
  await line("web", "10.0.0.1:80").getByText("leader").waitFor();
  passed("online instances are shown with attributes, tags and leader");

  const second = register("web", "10.0.0.2:80", "-a", "note=<b>not bold</b>");
  await line("web", "10.0.0.2:80").getByText("note=<b>not bold</b>").waitFor();
  await changes.getByText("10.0.0.2:80").first().waitFor();
  passed("a new instance is shown and listed as a change, and its attributes are plain text");

  register("own", "10.0.0.7:1", "-a", "health=draining");
  await line("own", "10.0.0.7:1").getByText("draining", { exact: true }).waitFor();
  passed("the health that an instance reports itself is shown");

  register("db", "10.0.0.9:5432");
  await line("db", "10.0.0.9:5432").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("zone=eu");
  await box("db").waitFor({ state: "detached" });
  await line("web", "10.0.0.2:80").waitFor({ state: "detached" });
  await line("web", "10.0.0.1:80").waitFor();
  await page.keyboard.press("Escape");
  await line("db", "10.0.0.9:5432").waitFor();
  passed("the filter narrows the list and works from the keyboard");

  await put("v1/services/sick/instances/10.0.0.5:1", { check: { ttl: "60s" } });
  await line("sick", "10.0.0.5:1").getByText("critical").waitFor();
  await put("v1/maintenance", { mode: "maintenance", service: "db" });
  await line("db", "10.0.0.9:5432").getByText("maintenance").waitFor();
  passed("registrations that are not published are shown with the reason");

  const columns = await page.evaluate(() => {
    const left = (cell) => Math.round(cell.getBoundingClientRect().left);
    return [...document.querySelectorAll("table")].map((table) => [...table.querySelectorAll("th")].map(left).join(" "));
  });
  assert.ok(columns.length > 2 && new Set(columns).size === 1, columns.join("; "));
  passed("the columns of all services align");

  // Counts the moments at which the page shows an instance after the event that it went offline.
  await page.evaluate(() => {
    window.ghosts = 0;
    new MutationObserver(() => {
      const isDown = [...document.querySelectorAll("#changes li")].some((change) => change.textContent.includes("down web 10.0.0.2:80"));
      const box = document.querySelector('section[data-service="web"]');
      if (isDown && (box.querySelector('tr[data-id="10.0.0.2:80"]') || !box.textContent.includes("1 online"))) window.ghosts += 1;
    }).observe(document.body, { childList: true, subtree: true });
  });
  second.kill("SIGTERM");
  await line("web", "10.0.0.2:80").waitFor({ state: "detached" });
  await changes.getByText("down").first().waitFor();
  const listed = () => page.waitForResponse((response) => response.url().endsWith("v1/registrations"));
  await listed();
  await listed();
  assert.equal(await page.evaluate(() => window.ghosts), 0);
  passed("an instance that goes offline is removed at once and listed as a change");

  const firstSeen = () => line("web", "10.0.0.1:80").locator("time").getAttribute("datetime");
  const before = await firstSeen();
  assert.ok(Math.abs(Date.parse(before) - Date.now()) < 10 * TIMEOUT_MS, before);
  await page.reload();
  assert.equal(await firstSeen(), before);
  passed("the time online does not begin when the page is loaded");

  await page.screenshot({ path: screenshot, fullPage: true });
  await page.emulateMedia({ colorScheme: "light" });
  const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.notEqual(light, dark);
  passed("the page follows the colour scheme of the system");

  assert.deepEqual(requests.filter((request) => !request.startsWith(url)), []);
  assert.deepEqual(errors, []);
  passed("the page sends requests to the agent only, and its own policy refuses none");

  process.kill(Number(agent), "SIGKILL");
  await page.locator("#connection", { hasText: "not live" }).waitFor();
  await box("web").getByText("stale").waitFor();
  await line("web", "10.0.0.1:80").waitFor();
  passed("when the agent stops, the last state stays and is marked stale");
} finally {
  children.forEach((child) => child.kill("SIGKILL"));
  await browser.close();
}
