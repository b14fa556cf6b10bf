// Tests the token form of the web page. page.mjs shows the command line.

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
  await page.keyboard.type("not-the-token-of-the-agent");
  await page.keyboard.press("Enter");
  await field.waitFor({ state: "visible" });
  await page.locator("#connection", { hasText: /^live$/ }).waitFor({ state: "hidden" });
  await field.fill(token);
  await page.keyboard.press("Enter");
  await page.locator("#connection", { hasText: /^live$/ }).waitFor();
  assert.ok(!(await page.content()).includes(token), "the token is not in the page");
  assert.ok(!page.url().includes(token), "the token is not in the URL");
  console.log("ok the page is live with the token, and not with another token");
} finally {
  await browser.close();
}
