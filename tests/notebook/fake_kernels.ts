/**
 * Stand-ins for the globals of the two notebook kernels, which keep what they are sent.
 *
 * @module
 */
import type { NotebookScope } from "../../lib/notebook/screen.ts";

/** A message as the Deno kernel would broadcast it. */
export interface DenoMessage {
  type: string;
  content: Record<string, unknown>;
}

/** The globals of Deno's kernel. A call may take its time or fail. */
export function fakeDeno(
  options: { delaysMs?: number[]; failAt?: number } = {},
): { scope: NotebookScope; messages: DenoMessage[] } {
  const messages: DenoMessage[] = [];
  let nCalls = 0;
  const jupyter = {
    async broadcast(type: string, content: Record<string, unknown>) {
      const call = nCalls++;
      await new Promise((resolve) => setTimeout(resolve, options.delaysMs?.[call] ?? 0));
      if (call === options.failAt) throw new Error("kernel is gone");
      messages.push({ type, content });
    },
  };
  return { scope: { Deno: { jupyter } }, messages };
}

/** A call of `raw()` on one of tslab's displays, which are numbered in the order of their making. */
export interface TslabMessage {
  display: number;
  mediaType: string;
  content: string;
}

/** The globals of tslab. */
export function fakeTslab(): { scope: NotebookScope; messages: TslabMessage[] } {
  const messages: TslabMessage[] = [];
  let nDisplays = 0;
  const tslab = {
    newDisplay() {
      const display = nDisplays++;
      return { raw: (mediaType: string, content: string) => void messages.push({ display, mediaType, content }) };
    },
  };
  const require = (name: string) => {
    if (name !== "tslab") throw new Error(`Cannot find module ${name}`);
    return tslab;
  };
  return { scope: { __tslab__: { require } }, messages };
}
