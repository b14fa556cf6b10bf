// How a person gets in where the agent asks for a token: see page.mjs.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, token, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(url);
  const field = page.locator("#token");
  await field.waitFor();
  await page.keyboard.type("not-the-one-that-is-asked-for");
  await page.keyboard.press("Enter");
  await field.waitFor({ state: "visible" });
  await page.locator("#link", { hasText: /^live$/ }).waitFor({ state: "hidden" });
  await field.fill(token);
  await page.keyboard.press("Enter");
  await page.locator("#link", { hasText: /^live$/ }).waitFor();
  assert.ok(!(await page.content()).includes(token), "shown nowhere");
  assert.ok(!page.url().includes(token), "and in no address");
  console.log("ok with the token it is live, and with another it is not");
} finally {
  await browser.close();
}
