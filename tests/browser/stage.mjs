// What the scenes share: a browser, people in it, a look at a page (accessibility in both colour schemes, at the width of a phone too, and a picture), and
// `weft` for what an operator does meanwhile. The stage itself is set by tests/tests/browser.rs, which says in WEFT_STAGE where everything is.
import { execFileSync } from 'node:child_process';
import assert from 'node:assert/strict';
import fs from 'node:fs';

export const stage = JSON.parse(process.env.WEFT_STAGE);
const modules = `${process.env.WEFT_NODE}/node_modules`;
const { chromium } = await import(`${modules}/playwright-core/index.mjs`);
const axe = fs.readFileSync(`${modules}/axe-core/axe.min.js`, 'utf8');

export const PATIENCE = 30_000;
export const at = (host, path = '/') => `https://${host}.${stage.domain}:${stage.port}${path}`;

export const browser = await chromium.launch({
  executablePath: stage.chromium,
  args: [
    '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu',
    `--host-resolver-rules=MAP *.${stage.domain} ${stage.gateway}`,
    // This one key, made for this stage, and no other.
    `--ignore-certificate-errors-spki-list=${stage.pin}`,
  ],
});

// A person with a browser of their own; `user` may be nobody yet.
export class Person {
  static async come(user) {
    const context = await browser.newContext({ viewport: { width: 1000, height: 640 } });
    context.setDefaultTimeout(PATIENCE);
    const person = new Person();
    return Object.assign(person, { user, context, page: await person.tab(context) });
  }

  // A further tab of the same browser. What a page complains of is a finding.
  async tab(context = this.context) {
    const page = await context.newPage();
    page.complaints = [];
    page.on('console', (message) => { if (/Content Security Policy|Refused to/.test(message.text())) page.complaints.push(message.text()); });
    page.on('pageerror', (error) => page.complaints.push(String(error)));
    return page;
  }

  // Fills in the local provider's form.
  async type(page = this.page, password = stage.users[this.user]) {
    await page.getByLabel('User name').fill(this.user);
    await page.getByLabel('Password').fill(password);
    await page.getByRole('button', { name: 'Sign in' }).click();
  }

  // Opens an address, signing in on the way, and ends where it leads.
  async open(url, page = this.page) {
    await page.goto(url);
    if (isLogin(page)) {
      await this.type(page);
      await page.waitForURL((now) => !now.hostname.startsWith('id.'));
    }
    return page;
  }

  async leave() {
    await this.context.close();
  }
}

export const isLogin = (page) => new URL(page.url()).hostname === `id.${stage.domain}`;

export async function status(page, url) {
  const response = await page.goto(url);
  return response.status();
}

// Polls, so that nothing depends on when something is told.
export async function until(what, holds) {
  const end = Date.now() + PATIENCE;
  let last;
  while (Date.now() < end) {
    last = await holds();
    if (last === true) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.fail(`${what}: not within ${PATIENCE / 1000} s; last seen: ${JSON.stringify(last)}`);
}

export const text = (page, selector) => page.locator(selector).innerText();

export function weft(...args) {
  return execFileSync(stage.weft, ['--bridge', stage.bridge, ...args], { encoding: 'utf8' });
}

export const looked = [];

// Every rule of axe in both schemes; nothing runs out of the page at the width of a small phone; a picture of each.
export async function look(page, name) {
  const size = page.viewportSize();
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    const violations = found.violations.map((v) => `${v.id}: ${v.help} at ${v.nodes.map((n) => n.target.join(' ')).join(', ')}`);
    assert.deepEqual(violations, [], `${name}, ${scheme}: accessibility`);
    assert.ok(found.testEngine.name === 'axe-core', 'axe has run');
    await page.screenshot({ path: `${stage.pictures}/${name}-${scheme}.png` });
  }
  await page.setViewportSize({ width: 320, height: 640 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  await page.setViewportSize(size);
  assert.ok(wide <= 320, `${name} is ${wide} pixels wide on a screen of 320`);
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: null });
  assert.deepEqual(page.complaints, [], `${name}: the browser complained`);
  looked.push(name);
}
