/**
 * A figure that redraws itself in place while something runs, such as the curves of a training. Pictures go out as PNG
 * and seldom: between two redraws passes twenty times as long as the last one took, so that looking costs about a
 * twentieth of the time at most. A terminal gets a line of text now and then.
 *
 * @module
 */
import { type Figure, toPng } from "../figures/figure.ts";
import { plotTraining, trainingFacts, type TrainingPlotOptions } from "../figures/training_plots.ts";
import type { TrainingPoint } from "../figures/training_point.ts";
import type { RgbImage } from "../images/decode.ts";
import { toMimeBundle } from "./media.ts";
import { currentScreen, type MimeBundle, type Screen } from "./screen.ts";

/** Where and how often a live figure is drawn. */
export interface LiveFigureOptions {
  /** Where to draw. @default {the kernel or terminal of this process} */
  readonly screen?: Screen;
  /** Shortest time between two drawings, in milliseconds. @default {1000 in a notebook, 10000 in a terminal} */
  readonly intervalMs?: number;
  /** Pixels of the PNG for each pixel of the figure. @default {2} */
  readonly scale?: number;
  /** A clock in milliseconds. @default {performance.now} */
  readonly now?: () => number;
}

/** A place in a notebook's output that shows the latest state of a figure. */
export interface LiveFigure {
  /**
   * Hands over the latest figure, or a function that draws it, which is called only if its turn comes. Resolves at once
   * if it is too early to draw again, else when the picture has been sent. Never rejects: a loop of hours does not end
   * because of a picture. Calls after `finish()` do nothing.
   *
   * @param text What a terminal prints in place of the picture; by default its size.
   */
  update(figure: Figure | RgbImage | (() => Figure | RgbImage), text?: string): Promise<void>;
  /**
   * Draws the last state if it is not there yet. Await it at the end of a cell, or the last drawing may be lost.
   *
   * @throws The first failure of a drawing; there was none after it.
   */
  finish(): Promise<void>;
}

/** Redraws wait for this many times what the last one took. */
const restFactor = 20;

/**
 * Opens a live figure.
 *
 * @throws {RangeError} If `intervalMs` is negative or not finite.
 *
 * @example
 * ```ts
 * import * as kit from "sparsight";
 * const live = kit.openLiveFigure();
 * const points: kit.TrainingPoint[] = [];
 * for (let step = 1; step <= 100; step++) {
 *   points.push({ step, nTokens: 512 * step, loss: 1 / step });
 *   await live.update(() => kit.plotTraining(points));
 * }
 * await live.finish();
 * ```
 */
export function openLiveFigure(options: LiveFigureOptions = {}): LiveFigure {
  const { screen = currentScreen(), scale, now = () => performance.now() } = options;
  const isTerminal = screen.runtime === "terminal";
  const { intervalMs = isTerminal ? 10_000 : 1000 } = options;
  if (!(intervalMs >= 0 && Number.isFinite(intervalMs))) {
    throw new RangeError(
      `Cannot open live figure: intervalMs must be a finite number >= 0, current value is ${intervalMs}`,
    );
  }
  const slot = screen.openSlot();
  let waiting: { figure: Parameters<LiveFigure["update"]>[0]; text?: string } | undefined;
  let drawing: Promise<void> | undefined;
  let failure: { error: unknown } | undefined;
  let dueMs = -Infinity;
  let isFinished = false;

  const toBundle = async ({ figure, text }: NonNullable<typeof waiting>): Promise<MimeBundle> => {
    if (isTerminal && text !== undefined) return { "text/plain": text };
    const drawn = typeof figure === "function" ? figure() : figure;
    if (isTerminal) return await toMimeBundle(drawn);
    const bundle = await toMimeBundle(await toPng(drawn, { scale }), {
      widthPx: "svg" in drawn ? drawn.widthPx : drawn.width,
    });
    return { ...bundle, "text/plain": text ?? bundle["text/plain"] };
  };
  const draw = async () => {
    if (waiting === undefined || failure !== undefined) return;
    const startMs = now();
    const taken = waiting;
    waiting = undefined;
    try {
      await slot.draw(await toBundle(taken));
    } catch (error) {
      failure = { error };
    }
    dueMs = startMs + Math.max(intervalMs, restFactor * (now() - startMs));
    drawing = undefined;
  };

  return {
    async update(figure, text) {
      if (isFinished) return;
      waiting = { figure, text };
      if (drawing !== undefined || now() < dueMs) return;
      drawing = draw();
      await drawing;
    },
    async finish() {
      isFinished = true;
      await drawing;
      drawing ??= draw();
      await drawing;
      if (failure !== undefined) throw failure.error;
    },
  };
}

/** Options of {@linkcode liveTraining}: those of the plot, and where and how often it is drawn. */
export interface LiveTrainingOptions extends TrainingPlotOptions, LiveFigureOptions {}

/** A training to look at while it runs. */
export interface LiveTraining {
  /** The log so far, to plot or save afterwards. */
  readonly points: readonly TrainingPoint[];
  /** Held-out values so far. */
  readonly heldOut: readonly TrainingPoint[];
  /**
   * Adds a line of the log. It may be passed on without its object. Await it where the loop itself waits for nothing:
   * a picture is sent only when the event loop has a turn.
   */
  onStep(point: TrainingPoint): Promise<void>;
  /** Adds values measured on held-out tokens. */
  onHeldOut(point: TrainingPoint): Promise<void>;
  /** Draws the last state; await it at the end of the cell. Errors are those of `finish()` of a live figure. */
  finish(): Promise<void>;
}

/**
 * Curves that grow while a training runs; in a terminal, a line every ten seconds.
 *
 * @throws {RangeError} If an option is out of range.
 *
 * @example
 * ```ts
 * import * as kit from "sparsight";
 * const live = kit.liveTraining({ dSae: 1536, name: "TopK 32" });
 * for (let step = 1; step <= 100; step++) { // the trainer does this
 *   await live.onStep({ step, nTokens: 4096 * step, loss: 1 / step, l0: 32 });
 * }
 * await live.finish();
 * ```
 */
export function liveTraining(options: LiveTrainingOptions = {}): LiveTraining {
  const points: TrainingPoint[] = [];
  const heldOut: TrainingPoint[] = [...options.heldOut ?? []];
  const plot = () => plotTraining(points, { ...options, heldOut });
  plot(); // an option out of range should be known before hours of training
  const live = openLiveFigure(options);
  const redraw = async () => {
    const last = points.at(-1) ?? heldOut.at(-1)!;
    await live.update(plot, trainingFacts(last, options).join(", "));
  };
  return {
    points,
    heldOut,
    async onStep(point) {
      points.push(point);
      await redraw();
    },
    async onHeldOut(point) {
      heldOut.push(point);
      await redraw();
    },
    finish: () => live.finish(),
  };
}
