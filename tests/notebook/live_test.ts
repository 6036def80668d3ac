import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import sharp from "sharp";
import type { TrainingPoint } from "../../lib/figures/training_point.ts";
import { liveTraining, openLiveFigure } from "../../lib/notebook/live.ts";
import { type MimeBundle, openScreen, type RuntimeName, type Screen } from "../../lib/notebook/screen.ts";
import { fakeDeno, fakeTslab } from "./fake_kernels.ts";

/** A figure whose width tells it from others. */
function figure(widthPx: number): { svg: string; widthPx: number; heightPx: number } {
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${widthPx}" height="4"><rect width="2" height="2"/></svg>`;
  return { svg, widthPx, heightPx: 4 };
}

/** A screen that keeps what it is sent, and a clock that is set by hand. A drawing takes `drawMs`. */
function recorder(runtime: RuntimeName = "deno-notebook", drawMs = 0) {
  const bundles: MimeBundle[] = [];
  const clock = { nowMs: 0 };
  const screen: Screen = {
    runtime,
    openSlot: () => ({
      draw(bundle) {
        clock.nowMs += drawMs;
        bundles.push(bundle);
        return Promise.resolve();
      },
    }),
  };
  const widths = () => bundles.map((bundle) => Number(/<img width="(\d+)"/.exec(bundle["text/html"]!)![1]));
  return { bundles, widths, clock, options: { screen, now: () => clock.nowMs } };
}

function pointAt(step: number): TrainingPoint {
  return { step, nTokens: 512 * step, loss: 1 / step, normalizedMse: 0.5 / step, l0: 8 };
}

/** The bytes of the picture in an output. */
function pngOf(html: string): Uint8Array {
  return Buffer.from(/base64,([^"]+)"/.exec(html)![1], "base64");
}

Deno.test("openLiveFigure() redraws one output in place in Deno's kernel, as PNG at twice the size", async () => {
  const { scope, messages } = fakeDeno();
  const live = openLiveFigure({ screen: openScreen(scope), intervalMs: 0 });
  await live.update(figure(10), "first");
  await live.finish();
  const [{ type, content }] = messages;
  assert.equal(messages.length, 1);
  assert.equal(type, "display_data");
  const data = content.data as Record<string, string>;
  assert.deepEqual(Object.keys(data), ["text/plain", "text/html"]);
  assert.equal(data["text/plain"], "first");
  assert.match(data["text/html"], /^<img width="10" /);
  const { format, width, height } = await sharp(pngOf(data["text/html"])).metadata();
  assert.deepEqual([format, width, height], ["png", 20, 8]);
});

Deno.test("openLiveFigure() updates the same display of Deno's kernel, and tslab's same display", async () => {
  const deno = fakeDeno();
  const tslab = fakeTslab();
  for (const scope of [deno.scope, tslab.scope]) {
    let nowMs = 0;
    const live = openLiveFigure({ screen: openScreen(scope), now: () => nowMs });
    for (const widthPx of [10, 11, 12]) {
      await live.update(figure(widthPx));
      nowMs += 5000;
    }
    await live.finish();
  }
  assert.deepEqual(deno.messages.map(({ type }) => type), [
    "display_data",
    "update_display_data",
    "update_display_data",
  ]);
  const ids = deno.messages.map(({ content }) => (content.transient as { display_id: string }).display_id);
  assert.equal(new Set(ids).size, 1);
  assert.deepEqual(tslab.messages.map(({ display, mediaType }) => [display, mediaType]), [
    [0, "text/html"],
    [0, "text/html"],
    [0, "text/html"],
  ]);
  assert.match(tslab.messages[2].content, /^<img width="12"/);
});

Deno.test("openLiveFigure() draws the first state, at most one each interval, and the last", async () => {
  const { widths, clock, options } = recorder();
  const live = openLiveFigure(options);
  for (let i = 1; i <= 26; i++) {
    await live.update(figure(i));
    clock.nowMs += 100;
  }
  assert.deepEqual(widths(), [1, 11, 21]);
  await live.finish();
  await live.finish();
  await live.update(figure(99));
  assert.deepEqual(widths(), [1, 11, 21, 26]);
});

Deno.test("openLiveFigure() draws nothing twice", async () => {
  const { widths, options } = recorder();
  const live = openLiveFigure(options);
  await live.update(figure(5));
  await live.finish();
  assert.deepEqual(widths(), [5]);

  const unused = recorder();
  await openLiveFigure(unused.options).finish();
  assert.deepEqual(unused.widths(), []);
});

Deno.test("openLiveFigure() rests twenty times as long as a drawing takes", async () => {
  const { widths, clock, options } = recorder("deno-notebook", 200);
  const live = openLiveFigure(options);
  await live.update(figure(1)); // from 0 to 200 ms: the next at 4000
  clock.nowMs = 3999;
  await live.update(figure(2));
  assert.deepEqual(widths(), [1]);
  clock.nowMs = 4000;
  await live.update(figure(3));
  assert.deepEqual(widths(), [1, 3]);
});

Deno.test("openLiveFigure() keeps only the latest state while a drawing is on its way", async () => {
  const { widths, options } = recorder();
  const live = openLiveFigure({ ...options, intervalMs: 0 });
  let nDrawn = 0;
  const draw = (widthPx: number) => () => (nDrawn++, figure(widthPx));
  for (let i = 1; i <= 50; i++) live.update(draw(i));
  await live.finish();
  assert.deepEqual(widths(), [1, 50]);
  assert.equal(nDrawn, 2);
});

Deno.test("openLiveFigure() lets the loop go on when drawing fails, and finish() says why", async () => {
  const { widths, options } = recorder();
  const live = openLiveFigure({ ...options, intervalMs: 0 });
  await live.update(figure(1));
  await live.update(() => {
    throw new RangeError("no room");
  });
  await live.update(figure(2));
  await assert.rejects(live.finish(), { name: "RangeError", message: "no room" });
  assert.deepEqual(widths(), [1]);

  const { scope } = fakeDeno({ failAt: 0 });
  const gone = openLiveFigure({ screen: openScreen(scope) });
  await gone.update(figure(1));
  await assert.rejects(gone.finish(), { name: "Error", message: "kernel is gone" });
});

Deno.test("openLiveFigure() prints lines in a terminal and draws no picture for them", async () => {
  const { bundles, clock, options } = recorder("terminal");
  const live = openLiveFigure(options);
  const never = () => {
    throw new Error("must not be drawn");
  };
  for (let i = 0; i < 25; i++) {
    await live.update(never, `line ${i}`);
    clock.nowMs += 1000;
  }
  await live.finish();
  assert.deepEqual(bundles, [0, 10, 20, 24].map((i) => ({ "text/plain": `line ${i}` })));
});

Deno.test("openLiveFigure() refuses an interval below 0", () => {
  assert.throws(() => openLiveFigure({ intervalMs: -1 }), {
    name: "RangeError",
    message: "Cannot open live figure: intervalMs must be a finite number >= 0, current value is -1",
  });
});

Deno.test("liveTraining() collects the log and draws it, its callback passed on without the object", async () => {
  const { bundles, widths, clock, options } = recorder();
  const { onStep, onHeldOut, points, heldOut, finish } = liveTraining({ ...options, widthPx: 400, dSae: 64 });
  for (let step = 1; step <= 30; step++) {
    await onStep(pointAt(step));
    clock.nowMs += 100;
  }
  await onHeldOut(pointAt(30));
  await finish();
  assert.deepEqual(points.map(({ step }) => step), Array.from({ length: 30 }, (_, i) => i + 1));
  assert.equal(heldOut.length, 1);
  assert.deepEqual(widths(), [400, 400, 400, 400]);
  assert.equal(bundles.at(-1)!["text/plain"], "step 30, 15.4 k tokens, normalized MSE 0.0167, L0 8");
});

Deno.test("liveTraining() prints the log in a terminal", async () => {
  const { bundles, clock, options } = recorder("terminal");
  const live = liveTraining(options);
  for (let step = 1; step <= 3; step++) {
    await live.onStep({ step, nTokens: 512 * step, loss: 1 / step });
    clock.nowMs += 9000;
  }
  await live.finish();
  assert.deepEqual(bundles.map((bundle) => bundle["text/plain"]), [
    "step 1, 512 tokens, loss 1",
    "step 3, 1,536 tokens, loss 0.333",
  ]);
});

Deno.test("liveTraining() refuses options out of range before the first step", () => {
  assert.throws(() => liveTraining({ dSae: -1 }), {
    name: "RangeError",
    message: "Cannot draw training: dSae must be a positive integer, current value is -1",
  });
});
