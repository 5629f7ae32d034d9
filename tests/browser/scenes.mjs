// What people do at the door. Each scene is whole by itself, and none needs another to have been before.
import assert from 'node:assert/strict';
import { Person, at, isLogin, look, status, text, until, weft } from './stage.mjs';

const tiles = (page) => page.locator('main li a').allInnerTexts();

export async function signInAndPortal() {
  const alice = await Person.come('alice');
  await alice.page.goto(at('portal'));
  assert.ok(isLogin(alice.page), alice.page.url());
  await look(alice.page, 'sign-in');
  await alice.type(alice.page, 'not her password');
  await alice.page.getByRole('alert').waitFor();
  await look(alice.page, 'sign-in-refused');
  assert.ok(isLogin(alice.page));
  await alice.type();
  await alice.page.waitForURL(at('portal'));
  assert.deepEqual(await tiles(alice.page), ['Orders', 'Returns', 'Wiki', 'Handbook']);
  await until('what nobody runs is said not to answer', async () => /Returns[^]*does not answer/i.test(await text(alice.page, 'main')) || text(alice.page, 'main'));
  await look(alice.page, 'portal');
  await alice.leave();
}

export async function portalOfAnother() {
  const bob = await Person.come('bob');
  await bob.open(at('portal'));
  assert.deepEqual(await tiles(bob.page), ['Ledger', 'Bank', 'Wiki', 'Handbook'], 'exactly his');
  await bob.leave();
}

export async function portalOfWhoIsInNoGroup() {
  const carol = await Person.come('carol');
  await carol.open(at('portal'));
  assert.deepEqual(await tiles(carol.page), ['Wiki', 'Handbook'], 'in no group');
  await carol.leave();
}

export async function anAppPage() {
  const alice = await Person.come('alice');
  await alice.open(at('portal'));
  await alice.page.getByRole('link', { name: 'Orders' }).click();
  await alice.page.waitForURL(at('orders'));
  assert.equal(await text(alice.page, '#who'), 'alice');
  assert.equal(await text(alice.page, '#cookies'), 'none', 'the session is no business of an application');
  await until('events and echoes', async () => (Number(await text(alice.page, '#ticks')) > 2 && (await text(alice.page, '#socket')) === 'open: hello') || text(alice.page, '#socket'));
  await alice.page.screenshot({ path: `${JSON.parse(process.env.WEFT_STAGE).pictures}/app-light.png` });
  await alice.leave();
}

export async function aRefusedApp() {
  const alice = await Person.come('alice');
  await alice.open(at('portal'));
  assert.equal(await status(alice.page, at('books', '/2026')), 403);
  const said = await text(alice.page, 'main');
  for (const word of ['Ledger', 'finance', 'shop', 'weft why']) assert.ok(said.includes(word), `${word} in ${said}`);
  await look(alice.page, 'refused');
  const bob = await Person.come('bob');
  await bob.open(at('portal'));
  assert.equal(await status(bob.page, at('books', '/2026')), 200, 'who is in the group is let in');
  await Promise.all([alice.leave(), bob.leave()]);
}

export async function aDeepLink() {
  const alice = await Person.come('alice');
  const deep = at('orders', '/lines/17?sort=name&q=%C3%BC+x');
  await alice.open(deep);
  await alice.page.waitForURL(deep);
  assert.equal(await text(alice.page, '#at'), '/lines/17?sort=name&q=%C3%BC+x');
  await alice.leave();
}

export async function twoTabsAtOnce() {
  const alice = await Person.come('alice');
  const other = await alice.tab();
  await Promise.all([alice.page.goto(at('orders', '/one')), other.goto(at('wiki', '/two'))]);
  assert.ok(isLogin(alice.page) && isLogin(other));
  await Promise.all([alice.type(alice.page), alice.type(other)]);
  await Promise.all([alice.page.waitForURL(at('orders', '/one')), other.waitForURL(at('wiki', '/two'))]);
  for (const page of [alice.page, other]) assert.equal(await text(page, '#who'), 'alice');
  // And one after the other: the second form is older than the session.
  const late = await Person.come('alice');
  const second = await late.tab();
  await late.page.goto(at('orders', '/one'));
  await second.goto(at('wiki', '/two'));
  await late.type(late.page);
  await late.page.waitForURL(at('orders', '/one'));
  await late.type(second);
  await second.waitForURL(at('wiki', '/two'));
  await Promise.all([alice.leave(), late.leave()]);
}

export async function searchByKeyboard() {
  const alice = await Person.come('alice');
  await alice.open(at('portal'));
  await alice.page.keyboard.press('/');
  await alice.page.keyboard.type('wik');
  await until('one tile', async () => (await alice.page.locator('main li:visible a').count()) === 1);
  await alice.page.keyboard.press('ArrowDown');
  await alice.page.keyboard.press('Enter');
  await alice.page.waitForURL(at('wiki'));
  await alice.leave();
}

export async function signOut() {
  const alice = await Person.come('alice');
  await alice.open(at('orders'));
  const portal = await alice.tab();
  await portal.goto(at('portal'));
  await portal.getByRole('button', { name: 'Sign out' }).click();
  await portal.waitForURL((now) => now.pathname === '/.weft/signed-out');
  await look(portal, 'signed-out');
  await until('the stream of the other tab ends', async () => (await text(alice.page, '#stream')) === 'ended' || text(alice.page, '#stream'));
  await alice.page.goto(at('orders'));
  assert.ok(isLogin(alice.page), 'the password is asked for again');
  await alice.leave();
}

export async function ownSessions() {
  const [here, there] = [await Person.come('alice'), await Person.come('alice')];
  await there.open(at('orders'));
  await here.open(at('portal'));
  await here.page.getByRole('link', { name: 'Sessions' }).click();
  await here.page.waitForURL(at('portal', '/.weft/sessions'));
  await look(here.page, 'sessions');
  const elsewhere = here.page.getByRole('region', { name: 'Elsewhere' });
  await elsewhere.getByRole('button').first().click();
  await until('the other browser is out', async () => (await text(there.page, '#stream')) === 'ended' || text(there.page, '#stream'));
  await here.page.goto(at('portal'));
  assert.ok(!isLogin(here.page), 'this one is not');
  await Promise.all([here.leave(), there.leave()]);
}

export async function aGroupIsTakenAway() {
  const [dora, alice] = [await Person.come('dora'), await Person.come('alice')];
  for (const person of [dora, alice]) {
    await person.open(at('orders'));
    await until('the stream is open', async () => (await text(person.page, '#stream')) === 'open');
  }
  weft('user', 'groups', 'dora', '--remove', 'sales');
  await until('the stream ends', async () => (await text(dora.page, '#stream')) === 'ended' || text(dora.page, '#stream'));
  await until('the socket is closed, and is told why', async () => (await text(dora.page, '#socket')) === 'closed 1008' || text(dora.page, '#socket'));
  assert.equal(await status(dora.page, at('orders')), 403, 'the next request is refused');
  await dora.page.goto(at('portal'));
  assert.deepEqual(await tiles(dora.page), ['Wiki', 'Handbook']);
  assert.equal(await text(alice.page, '#stream'), 'open', 'who is still in it goes on');
  await Promise.all([dora.leave(), alice.leave()]);
}

export async function somethingIsWrong() {
  const alice = await Person.come('alice');
  await alice.open(at('portal'));
  assert.equal(await status(alice.page, at('portal', '/nowhere')), 404);
  await look(alice.page, 'not-found');
  assert.equal(await status(alice.page, at('gone')), 502);
  await look(alice.page, 'app-away');
  await alice.page.goto(at('portal', '/.weft/logout'));
  await look(alice.page, 'sign-out');
  await alice.leave();
}
