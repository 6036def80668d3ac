/**
 * The three looks of a progress bar: HTML in notebooks, cli-progress (https://github.com/npkgz/cli-progress) in a
 * terminal, plain lines elsewhere. Each is a function of the state, so it can be tested without a clock or a loop.
 *
 * @module
 */
import type { Screen } from "./screen.ts";
import { escapeHtml } from "./table.ts";

/** All a painter needs to know. */
export interface ProgressState {
  /** What is being done. */
  readonly label: string;
  /** What the items are; may be empty. */
  readonly unit: string;
  /** Items done, those before the start included. */
  readonly done: number;
  /** Items done before the start. */
  readonly initial: number;
  /** Items to do; undefined if unknown. */
  readonly total?: number;
  /** Time since the start, in milliseconds. */
  readonly elapsedMs: number;
  /** A last word or two from the loop. */
  readonly note?: string;
  /** Whether this is the last state. */
  readonly isFinished: boolean;
}

/** Draws one state. It is called with the first state, some between, and the last, in order, one at a time. */
export type Painter = (state: ProgressState) => Promise<void> | void;

/** Width of the terminal's bar, in characters. */
const barsize = 24;

/** The painter that fits where this runs. */
export function screenPainter(screen: Screen): Painter {
  if (screen.runtime !== "terminal") return notebookPainter(screen);
  const isTerminal = globalThis.process?.stderr?.isTTY === true;
  return isTerminal ? terminalPainter() : linePainter();
}

/** A bar in the cell's output. */
export function notebookPainter(screen: Screen): Painter {
  const slot = screen.openSlot();
  return (state) => slot.draw({ "text/plain": progressLine(state), "text/html": progressHtml(state) });
}

/** A line when the work starts and one when it ends: for logs. */
export function linePainter(write: (line: string) => void = (line) => console.error(line)): Painter {
  let isStarted = false;
  return (state) => {
    if (isStarted && !state.isFinished) return;
    write(isStarted || state.isFinished ? progressLine(state) : `${state.label} …`);
    isStarted = true;
  };
}

/** A bar on standard error that overwrites itself. */
export function terminalPainter(): Painter {
  let bar: TerminalBar | undefined;
  return async (state) => {
    const payload = { line: fitLine(progressLine(state), globalThis.process?.stderr?.columns) };
    bar ??= await startBar(state, payload);
    bar.update(state.done, payload);
    if (state.isFinished) bar.stop();
  };
}

/** `"Recording: 120/3731 images, 303 images/s, 12 s left"`. */
export function progressLine(state: ProgressState): string {
  const { label, note } = state;
  return [`${label}: ${countText(state)}`, ...rateTexts(state), ...(note === undefined ? [] : [note])].join(", ");
}

/** The bar as HTML with inline styles; without a total, just the words. */
export function progressHtml(state: ProgressState): string {
  const { label, note, isFinished, total } = state;
  const share = doneShare(state);
  const color = isFinished && (total === undefined || state.done >= total) ? "#12805c" : "#3b6fd4";
  const words = [countText(state), ...rateTexts(state), ...(note === undefined ? [] : [note])];
  const bar = share === undefined
    ? ""
    : `<div role="progressbar" aria-valuenow="${Math.floor(share * 100)}" style="height:6px;margin-top:5px;` +
      `border-radius:3px;background:#d0d5dd;overflow:hidden"><div style="width:${(share * 100).toFixed(1)}%;` +
      `height:100%;background:${color}"></div></div>`;
  return `<div style="max-width:520px;padding:4px 0;font:13px system-ui,sans-serif;font-variant-numeric:tabular-nums">` +
    `<div style="display:flex;justify-content:space-between;gap:16px"><span>${escapeHtml(label)}</span>` +
    `<span style="color:#667085">${escapeHtml(words.join(" · "))}</span></div>${bar}</div>`;
}

/** `"850 ms"`, `"12.3 s"`, `"3 min 05 s"`, `"2 h 07 min"`. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 999.5) return `${Math.round(durationMs)} ms`;
  if (durationMs < 59_950) return `${(durationMs / 1000).toFixed(durationMs < 9_950 ? 1 : 0)} s`;
  const seconds = Math.round(durationMs / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Cuts what does not fit beside the bar: a wrapped line could not be overwritten. */
function fitLine(line: string, nColumns = 80): string {
  const nFree = Math.max(0, nColumns - barsize - " 100% ".length - 1);
  return line.length > nFree ? line.slice(0, Math.max(0, nFree - 1)) + "…" : line;
}

/** The part of cli-progress that is used; the package ships no types. */
interface CliProgress {
  readonly SingleBar: new (options: Record<string, unknown>, preset: unknown) => TerminalBar;
  readonly Presets: { readonly shades_classic: unknown };
}

interface TerminalBar {
  start(total: number, startValue: number, payload: { line: string }): void;
  update(done: number, payload: { line: string }): void;
  stop(): void;
  render(): void;
  timer: { unref?: () => void } | null;
}

async function startBar(state: ProgressState, payload: { line: string }): Promise<TerminalBar> {
  const { default: cliProgress } = await import("cli-progress") as { default: CliProgress }; // needs Node's streams
  const { SingleBar, Presets } = cliProgress;
  class Bar extends SingleBar {
    /** cli-progress redraws on a timer. Unless let go, it would keep a process alive whose loop threw. */
    override render(): void {
      super.render();
      this.timer?.unref?.();
    }
  }
  const format = state.total === undefined ? "{line}" : "{bar} {percentage}% {line}";
  // A signal handler would swallow Ctrl-C, and a changed wrap mode would outlive it: hence these two, and fitLine().
  const options = { format, barsize, fps: 4, gracefulExit: false, linewrap: true, autopadding: true };
  const bar = new Bar(options, Presets.shades_classic);
  bar.start(state.total ?? 0, state.done, payload);
  return bar;
}

function countText({ done, total, unit }: ProgressState): string {
  const count = total === undefined ? String(done) : `${done}/${total}`;
  return unit === "" ? count : `${count} ${unit}`;
}

/** Rate and time left while it runs, rate and time taken at the end; nothing before the first item. */
function rateTexts({ done, initial, total, elapsedMs, unit, isFinished }: ProgressState): string[] {
  const nDone = done - initial;
  // A loop whose first report was its last was not timed.
  const taken = isFinished && elapsedMs >= 1 ? [`took ${formatDuration(elapsedMs)}`] : [];
  if (nDone <= 0 || elapsedMs <= 0) return taken;
  const perSecond = nDone / (elapsedMs / 1000);
  const rate = `${formatRate(perSecond)}${unit === "" ? "" : " " + unit}/s`;
  if (isFinished) return [rate, ...taken];
  const left = total === undefined ? [] : [`${formatDuration(Math.max(0, total - done) / perSecond * 1000)} left`];
  return [rate, ...left];
}

function formatRate(perSecond: number): string {
  return perSecond >= 100 ? String(Math.round(perSecond)) : String(Number(perSecond.toPrecision(2)));
}

function doneShare({ done, total }: ProgressState): number | undefined {
  if (total === undefined) return undefined;
  return total === 0 ? 1 : Math.min(1, Math.max(0, done / total));
}
