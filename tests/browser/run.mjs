// Plays the scenes one after the other and says how each went. Arguments: parts of the names of those to play; none: all.
import fs from 'node:fs';
import * as scenes from './scenes.mjs';
import { browser, looked, stage } from './stage.mjs';

fs.mkdirSync(stage.pictures, { recursive: true });
const wanted = process.argv.slice(2);
const chosen = Object.entries(scenes).filter(([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
let failed = 0;
for (const [name, play] of chosen) {
  const begun = Date.now();
  try {
    await play();
    console.log(`scene ${name}: ok, ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  } catch (error) {
    failed += 1;
    console.log(`scene ${name}: FAILED, ${error.stack}`);
    for (const [number, page] of browser.contexts().flatMap((context) => context.pages()).entries()) {
      console.log(`  at ${page.url()}`);
      await page.screenshot({ path: `${stage.pictures}/failed-${name}-${number}.png` }).catch(() => {});
    }
  }
  await Promise.all(browser.contexts().map((context) => context.close()));
}
await browser.close();
console.log(`${chosen.length - failed} of ${chosen.length} scenes; accessibility of ${looked.length} pages in two schemes: ${looked.join(', ')}`);
process.exit(failed === 0 && chosen.length > 0 ? 0 : 1);
