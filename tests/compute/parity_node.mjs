/**
 * Runs the back end cases under Node, on Dawn (npm package `webgpu`), and prints one line a case and a last line of
 * JSON. Node 20 reads no TypeScript, so both modules come as JavaScript:
 *
 *     node tests/compute/parity_node.mjs LIBRARY.js CASES.js
 *
 * `LIBRARY.js` has to export `createWebGpuBackend` (the built kit does), `CASES.js` `checkBackend`.
 */
import process from "node:process";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [libraryPath, casesPath] = process.argv.slice(2);
if (!casesPath) {
  console.error("usage: node parity_node.mjs LIBRARY.js CASES.js");
  process.exit(2);
}
const { createWebGpuBackend } = await import(pathToFileURL(resolve(libraryPath)).href);
const { checkBackend } = await import(pathToFileURL(resolve(casesPath)).href);

const backend = await createWebGpuBackend();
let passed = 0;
await checkBackend(backend, {
  onPass(name) {
    passed++;
    console.log(`ok ${name}`);
  },
});
await backend.close();
console.log(JSON.stringify({ node: process.version, device: backend.device, passed }));
