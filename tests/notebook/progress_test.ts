import assert from "node:assert/strict";
import {
  formatDuration,
  linePainter,
  notebookPainter,
  progressHtml,
  type ProgressState,
} from "../../lib/notebook/painters.ts";
import { progressCallback, trackProgress, withProgress } from "../../lib/notebook/progress.ts";
import { openScreen } from "../../lib/notebook/screen.ts";
import { fakeDeno } from "./fake_kernels.ts";

/** A painter that keeps the states, and a clock that is set by hand. */
function recorder() {
  const states: ProgressState[] = [];
  const clock = { nowMs: 1000 };
  return {
    states,
    clock,
    options: { painter: (state: ProgressState) => void states.push(state), now: () => clock.nowMs },
  };
}

/** Lets painters that were asked to draw do so. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

Deno.test("trackProgress() draws at most every intervalMs, and always the start and the end", async () => {
  const { states, clock, options } = recorder();
  const progress = trackProgress("Reading", { total: 10, ...options });
  for (let done = 1; done <= 10; done++) {
    clock.nowMs += 100;
    progress.update(done);
    await settle();
  }
  await progress.finish("all read");

  assert.deepEqual(states.map(({ done }) => done), [0, 3, 6, 9, 10]);
  assert.deepEqual(states.map(({ isFinished }) => isFinished), [false, false, false, false, true]);
  assert.equal(states.at(-1)!.elapsedMs, 1000);
  assert.equal(states.at(-1)!.note, "all read");
});

Deno.test("trackProgress() does nothing after finish()", async () => {
  const { states, clock, options } = recorder();
  const progress = trackProgress("Reading", { total: 2, ...options });
  await progress.finish();
  clock.nowMs += 1000;
  progress.update(1);
  await progress.finish();
  assert.equal(states.length, 2);
});

Deno.test("trackProgress() skips drawings while a slow painter is busy", async () => {
  const { clock, options } = recorder();
  const drawn: number[] = [];
  const painter = async (state: ProgressState) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    drawn.push(state.done);
  };
  const progress = trackProgress("Reading", { total: 50, ...options, painter });
  for (let done = 1; done <= 50; done++) {
    clock.nowMs += 1000;
    progress.update(done);
  }
  await progress.finish();
  assert.deepEqual(drawn, [0, 50]);
});

Deno.test("trackProgress() lets the work go on when drawing fails", async () => {
  let nCalls = 0;
  const painter = () => {
    nCalls++;
    throw new Error("no front end");
  };
  const progress = trackProgress("Reading", { total: 1, intervalMs: 0, painter });
  progress.update(1);
  await progress.finish();
  assert.equal(nCalls, 1);
});

Deno.test("trackProgress() refuses a total that is no count", () => {
  assert.throws(() => trackProgress("Reading", { total: -3, quiet: true }), {
    name: "RangeError",
    message: "Cannot track progress: total must be a finite number >= 0, current value is -3",
  });
  assert.throws(() => trackProgress("Reading", { initial: NaN, quiet: true }), RangeError);
});

Deno.test("withProgress() yields the items and counts them", async () => {
  const { states, options } = recorder();
  const items: string[] = [];
  for await (const item of withProgress(["a", "b", "c"], { label: "Letters", total: 3, ...options })) items.push(item);
  assert.deepEqual(items, ["a", "b", "c"]);
  assert.equal(states.at(-1)!.done, 3);
  assert.equal(states.at(-1)!.isFinished, true);
});

Deno.test("withProgress() closes the source and the bar when the loop is left early", async () => {
  const { states, options } = recorder();
  let isClosed = false;
  async function* numbers() {
    try {
      for (let i = 0;; i++) yield await Promise.resolve(i);
    } finally {
      isClosed = true;
    }
  }
  for await (const number of withProgress(numbers(), { label: "Numbers", ...options })) if (number === 2) break;
  assert.equal(isClosed, true);
  assert.equal(states.at(-1)!.done, 2); // the third was not done
  assert.equal(states.at(-1)!.isFinished, true);
});

Deno.test("progressCallback() starts with the first call, finishes with the last, and starts anew after that", async () => {
  const { states, options } = recorder();
  const onProgress = progressCallback("Training", options);
  assert.equal(states.length, 0);
  for (const done of [0, 1, 2, 0, 1, 2]) {
    onProgress(done, 2);
    await settle();
  }
  assert.deepEqual(states.map(({ done, isFinished }) => [done, isFinished]), [
    [0, false],
    [2, true],
    [0, false],
    [2, true],
  ]);
});

Deno.test("progressCallback() finish() ends a loop of unknown length", async () => {
  const { states, options } = recorder();
  const onProgress = progressCallback("Streaming", options);
  onProgress(5);
  await onProgress.finish("end of file");
  assert.deepEqual([states.at(-1)!.done, states.at(-1)!.total, states.at(-1)!.note], [5, undefined, "end of file"]);
  await progressCallback("Never called", options).finish();
});

const state: ProgressState = {
  label: "Recording <b>",
  unit: "images",
  done: 150,
  initial: 50,
  total: 250,
  elapsedMs: 20_000,
  isFinished: false,
};

Deno.test("progressHtml() shows the share, the rate without the resumed part, and the time left", () => {
  const source = progressHtml(state);
  assert.match(source, /Recording &lt;b&gt;/);
  assert.match(source, /150\/250 images · 5 images\/s · 20 s left/);
  assert.match(source, /aria-valuenow="60"/);
  assert.match(source, /width:60\.0%/);
});

Deno.test("progressHtml() has no bar without a total, and a full one for nothing to do", () => {
  assert.doesNotMatch(progressHtml({ ...state, total: undefined }), /progressbar| left/);
  assert.match(progressHtml({ ...state, done: 0, initial: 0, total: 0, isFinished: true }), /width:100\.0%/);
});

Deno.test("notebookPainter() draws over one place", async () => {
  const { scope, messages } = fakeDeno();
  const painter = notebookPainter(openScreen(scope));
  await painter(state);
  await painter({ ...state, done: 250, isFinished: true });
  assert.deepEqual(messages.map(({ type }) => type), ["display_data", "update_display_data"]);
  assert.equal(
    (messages[1].content.data as Record<string, string>)["text/plain"],
    "Recording <b>: 250/250 images, 10 images/s, took 20 s",
  );
});

Deno.test("linePainter() writes a line at the start and one at the end", async () => {
  const lines: string[] = [];
  const painter = linePainter((line) => lines.push(line));
  for (const next of [{ ...state, done: 50 }, state, { ...state, done: 250, isFinished: true, note: "saved" }]) {
    await painter(next);
  }
  assert.deepEqual(lines, ["Recording <b> …", "Recording <b>: 250/250 images, 10 images/s, took 20 s, saved"]);
});

Deno.test("formatDuration() picks the unit", () => {
  const cases: [number, string][] = [
    [0, "0 ms"],
    [999.4, "999 ms"],
    [999.6, "1.0 s"],
    [9_949, "9.9 s"],
    [59_900, "60 s"],
    [59_960, "1 min 00 s"],
    [185_000, "3 min 05 s"],
    [3_599_900, "1 h 00 min"],
    [7_620_000, "2 h 07 min"],
  ];
  for (const [durationMs, text] of cases) assert.equal(formatDuration(durationMs), text);
});
