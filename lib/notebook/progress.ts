/**
 * Progress of long loops: a bar that updates in place in notebooks, cli-progress in a terminal, a line at the start and
 * at the end where the output is a file or a pipe. The library's own loops know nothing of this: they take an
 * `onProgress(done, total)` callback, and `progressCallback()` makes one.
 *
 * @module
 */
import { type Painter, type ProgressState, screenPainter } from "./painters.ts";
import { currentScreen } from "./screen.ts";

/** A running bar. */
export interface Progress {
  /** Reports how much is done in total (not how much more); cheap enough for every item. */
  update(done: number, note?: string): void;
  /** Draws the final state. Await it at the end of a cell, or the last drawing may be lost. Later calls do nothing. */
  finish(note?: string): Promise<void>;
}

/** How progress is shown. */
export interface ProgressOptions {
  /** Items to do. @default {unknown: shows the count, the rate and the time, no bar} */
  readonly total?: number;
  /** What the items are: `"303 images/s"`. @default {""} */
  readonly unit?: string;
  /** Items done before the start, as after a resume; they do not count for the rate. @default {0} */
  readonly initial?: number;
  /** Shows nothing at all. @default {false} */
  readonly quiet?: boolean;
  /** Shortest time between two drawings, in milliseconds. @default {250} */
  readonly intervalMs?: number;
  /** What draws. @default {the notebook's bar, the terminal's bar, or lines: by where this runs} */
  readonly painter?: Painter;
  /** A clock in milliseconds. @default {performance.now} */
  readonly now?: () => number;
}

/** What the library's loops call. `finish()` ends the bar early, or where the total was unknown. */
export interface ProgressCallback {
  /** Reports how much is done in total; without `total` there is no bar and no end. */
  (done: number, total?: number): void;
  /** Draws the final state; does nothing if the loop never began. */
  finish(note?: string): Promise<void>;
}

/**
 * Starts a bar.
 *
 * @throws {RangeError} if `total` or `initial` is negative or not finite
 *
 * @example
 * ```ts
 * import * as kit from "sparsight";
 * const progress = kit.trackProgress("Reading", { total: 3, unit: "files" });
 * for (let i = 0; i < 3; i++) progress.update(i + 1);
 * await progress.finish();
 * ```
 */
export function trackProgress(label: string, options: ProgressOptions = {}): Progress {
  const { total, initial = 0, intervalMs = 250, unit = "", now = () => performance.now() } = options;
  checkCount("total", total ?? 0);
  checkCount("initial", initial);
  const painter = options.quiet ? undefined : options.painter ?? screenPainter(currentScreen());
  const startMs = now();
  let state: ProgressState = { label, unit, done: initial, initial, total, elapsedMs: 0, isFinished: false };
  let lastDrawnMs = startMs;
  let drawing: Promise<void> = Promise.resolve();
  let nWaiting = 0;

  // A bar is never worth an exception: a painter that fails stops being asked.
  let isBroken = painter === undefined;
  const draw = (isForced: boolean) => {
    if (isBroken || (nWaiting > 0 && !isForced)) return; // a slow front end gets fewer drawings, not a queue of them
    const drawn = state;
    nWaiting++;
    drawing = drawing.then(() => isBroken ? undefined : painter!(drawn)).catch(() => {
      isBroken = true;
    }).finally(() => nWaiting--);
  };
  draw(true);

  return {
    update(done, note) {
      if (state.isFinished) return;
      const nowMs = now();
      state = { ...state, done, elapsedMs: nowMs - startMs, note: note ?? state.note };
      if (nowMs - lastDrawnMs < intervalMs) return;
      lastDrawnMs = nowMs;
      draw(false);
    },
    async finish(note) {
      if (!state.isFinished) {
        state = { ...state, elapsedMs: now() - startMs, note: note ?? state.note, isFinished: true };
        draw(true);
      }
      await drawing;
    },
  };
}

/**
 * Yields the items of `items` and shows how many went by. If the loop is left early or throws, the bar stays where it
 * was.
 */
export async function* withProgress<T>(
  items: AsyncIterable<T> | Iterable<T>,
  options: ProgressOptions & { readonly label: string },
): AsyncGenerator<T, void, undefined> {
  const progress = trackProgress(options.label, options);
  let done = options.initial ?? 0;
  try {
    for await (const item of items) {
      yield item;
      progress.update(++done);
    }
  } finally {
    await progress.finish();
  }
}

/**
 * An `onProgress` callback that starts a bar with the first call and finishes it when everything is done. Called again
 * after that with less, as by the next epoch, it starts a new bar.
 *
 * @example
 * ```ts
 * import * as kit from "sparsight";
 * const onProgress = kit.progressCallback("Recording activations", { unit: "images" });
 * for (let i = 0; i <= 100; i++) onProgress(i, 100); // a library function does this
 * await onProgress.finish();
 * ```
 */
export function progressCallback(label: string, options: Omit<ProgressOptions, "total"> = {}): ProgressCallback {
  let progress: Progress | undefined;
  let isComplete = false;
  const report = (done: number, total?: number) => {
    if (isComplete && total !== undefined && done < total) progress = undefined;
    // The clock starts with this call: what was done before it must not count for the rate.
    progress ??= trackProgress(label, { initial: done, ...options, total });
    progress.update(done);
    isComplete = total !== undefined && done >= total;
    if (isComplete) progress.finish();
  };
  return Object.assign(report, {
    async finish(note?: string) {
      await progress?.finish(note);
    },
  });
}

function checkCount(name: string, value: number): void {
  if (!(value >= 0 && Number.isFinite(value))) {
    throw new RangeError(`Cannot track progress: ${name} must be a finite number >= 0, current value is ${value}`);
  }
}
