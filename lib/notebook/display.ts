/**
 * `show()`: one call that displays a value wherever the code runs. The same cell works in Deno's Jupyter kernel, in
 * tslab, and as a script in a terminal.
 *
 * @module
 */
import { type MediaOptions, toMimeBundle } from "./media.ts";
import { currentScreen, type Screen } from "./screen.ts";

/** How and where a value is shown. */
export interface ShowOptions extends MediaOptions {
  /** Where to draw. @default {the kernel or terminal of this process} */
  readonly screen?: Screen;
}

/** One place in a notebook's output that is drawn over again and again, made by `openDisplay()`. */
export interface Display {
  /** Replaces what the place shows. Values and errors are those of the function `show()`. */
  show(value: unknown, options?: MediaOptions): Promise<void>;
}

/**
 * Displays a value. Await it: some kernels lose what a cell sends after its end.
 *
 * | value | in a notebook | in a terminal |
 * |---|---|---|
 * | a figure `{ svg, widthPx, heightPx }` | the drawing | its size |
 * | PNG bytes, or an RGB image `{ width, height, data }` | the picture | its size |
 * | an array of such pictures | the pictures, side by side | their sizes |
 * | an array of objects | a table, pictures in its cells included | a table |
 * | an object literal | a table of names and values | the same |
 * | `html("…")` | the HTML | its length |
 * | anything else | text | text |
 *
 * @throws {TypeError} if bytes are not a PNG
 *
 * @example
 * ```ts
 * import * as kit from "sparsight";
 * await kit.show([{ latent: 7, density: 0.0123 }, { latent: 9, density: 0.2 }], { caption: "Two latents" });
 * ```
 */
export async function show(value: unknown, options: ShowOptions = {}): Promise<void> {
  await openDisplay(options.screen).show(value, options);
}

/**
 * A place that `show()` on it draws over, for pictures that change: a loss curve, an image under steering. A terminal
 * prints each value anew.
 */
export function openDisplay(screen: Screen = currentScreen()): Display {
  const slot = screen.openSlot();
  return {
    async show(value, options) {
      await slot.draw(await toMimeBundle(value, options));
    },
  };
}
