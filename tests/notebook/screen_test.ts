/**
 * The kernels are played by hand-made objects that keep what they are sent.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type NotebookScope, openScreen, runtimeName } from "../../lib/notebook/screen.ts";
import { fakeDeno, fakeTslab } from "./fake_kernels.ts";

Deno.test("runtimeName() tells the kernels apart", () => {
  assert.equal(runtimeName(fakeDeno().scope), "deno-notebook");
  assert.equal(runtimeName(fakeTslab().scope), "tslab");
  assert.equal(runtimeName({}), "terminal");
});

Deno.test("runtimeName() is terminal in a script, where Deno.jupyter throws", () => {
  const scope: NotebookScope = {
    Deno: {
      get jupyter(): never {
        throw new Error("Deno.jupyter is only available in a notebook");
      },
    },
  };
  assert.equal(runtimeName(scope), "terminal");
  assert.equal(runtimeName(), "terminal"); // this test is such a script
});

Deno.test("openScreen() sends every form to the Deno kernel, then updates in place", async () => {
  const { scope, messages } = fakeDeno();
  const slot = openScreen(scope).openSlot();
  await slot.draw({ "text/plain": "one", "text/html": "<b>one</b>" });
  await slot.draw({ "text/plain": "two" });

  assert.deepEqual(messages.map(({ type }) => type), ["display_data", "update_display_data"]);
  assert.deepEqual(messages[0].content.data, { "text/plain": "one", "text/html": "<b>one</b>" });
  assert.deepEqual(messages[0].content.transient, messages[1].content.transient);
});

Deno.test("openScreen() gives each slot its own place", async () => {
  const { scope, messages } = fakeDeno();
  const screen = openScreen(scope);
  await screen.openSlot().draw({ "text/plain": "one" });
  await screen.openSlot().draw({ "text/plain": "two" });

  assert.deepEqual(messages.map(({ type }) => type), ["display_data", "display_data"]);
  assert.notDeepEqual(messages[0].content.transient, messages[1].content.transient);
});

Deno.test("openScreen() waits after a message to the Deno kernel, which drops what it has no time to send", async () => {
  const slot = openScreen(fakeDeno().scope).openSlot();
  const startMs = performance.now();
  for (let i = 0; i < 4; i++) await slot.draw({ "text/plain": String(i) });
  assert.ok(performance.now() - startMs >= 16, "4 messages must take at least 4 times about 5 ms");
});

Deno.test("openScreen() sends tslab the richest form", async () => {
  const { scope, messages } = fakeTslab();
  const screen = openScreen(scope);
  const slot = screen.openSlot();
  await slot.draw({ "text/plain": "words", "image/png": "AAAA", "text/html": "<b>words</b>" });
  await slot.draw({ "text/plain": "words", "image/png": "AAAA" });
  await screen.openSlot().draw({ "text/plain": "words" });

  assert.deepEqual(messages, [
    { display: 0, mediaType: "text/html", content: "<b>words</b>" },
    { display: 0, mediaType: "image/png", content: "AAAA" },
    { display: 1, mediaType: "text/plain", content: "words" },
  ]);
});

Deno.test("openScreen() draws in the order of the calls, awaited or not", async () => {
  const { scope, messages } = fakeDeno({ delaysMs: [12, 1, 6] });
  const screen = openScreen(scope);
  const slots = [screen.openSlot(), screen.openSlot(), screen.openSlot()];
  await Promise.all(slots.map((slot, i) => slot.draw({ "text/plain": String(i) })));
  assert.deepEqual(messages.map(({ content }) => content.data), [0, 1, 2].map((i) => ({ "text/plain": String(i) })));
});

Deno.test("openScreen() goes on after a drawing that failed", async () => {
  const { scope, messages } = fakeDeno({ failAt: 0 });
  const screen = openScreen(scope);
  await assert.rejects(screen.openSlot().draw({ "text/plain": "lost" }), { message: "kernel is gone" });
  await screen.openSlot().draw({ "text/plain": "kept" });
  assert.deepEqual(messages.map(({ content }) => content.data), [{ "text/plain": "kept" }]);
});
