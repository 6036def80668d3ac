/**
 * Where output goes: the Deno kernel, tslab, or a terminal, behind one interface. The only file of the library that
 * knows how a notebook kernel is found and spoken to. Messages follow the Jupyter protocol
 * (https://jupyter-client.readthedocs.io/en/stable/messaging.html#display-data).
 *
 * @module
 */

/** Who draws. A browser page counts as a terminal: its console is one. */
export type RuntimeName = "deno-notebook" | "tslab" | "terminal";

/** One output in several forms by media type; pictures are base64. `text/plain` is always there. */
export interface MimeBundle {
  /** What a terminal prints. */
  readonly "text/plain": string;
  /** A fragment with inline styles. */
  readonly "text/html"?: string;
  /** A PNG file in base64. */
  readonly "image/png"?: string;
}

/** One place in the output: the first drawing creates it, later ones replace what it shows. */
export interface ScreenSlot {
  /** Resolves when the front end has had time to receive it. Drawings of one screen happen in the order of the calls. */
  draw(bundle: MimeBundle): Promise<void>;
}

/** Somewhere to draw. */
export interface Screen {
  /** Whose it is. */
  readonly runtime: RuntimeName;
  /** A new place below the earlier ones. */
  openSlot(): ScreenSlot;
}

/** The kernels' globals, as far as they are used: `globalThis`, or a hand-made object in tests. */
export interface NotebookScope {
  /** Deno, with `jupyter` in its kernel only. */
  readonly Deno?: { readonly jupyter?: DenoJupyter };
  /** What tslab leaves for its cells. */
  readonly __tslab__?: { readonly require?: (name: string) => unknown };
}

/** The part of `Deno.jupyter` that is used. */
export interface DenoJupyter {
  /** Sends a message to all front ends. */
  broadcast(type: string, content: Record<string, unknown>): Promise<void>;
}

/** The part of tslab's public module that is used. */
interface Tslab {
  newDisplay(): { raw(mediaType: string, content: string): void };
}

/** tslab sends one form a message: the richest first. */
const richestFirst = ["text/html", "image/png", "text/plain"] as const;

/**
 * The Deno kernel reports "idle" ahead of messages that still wait in its queue, and a front end drops or misplaces
 * those. A pause after each message lets the queue drain: with 5 ms, 100 of 100 arrived; with none, about 50 of 300. On a
 * machine with several times as much to do as it has cores, 5 ms lost one of a notebook's thirty, so there is more of it
 * where something is shown for the first time; what is drawn over is followed by another.
 */
const denoDrainMs = { first: 40, next: 5 } as const;

let globalScreen: Screen | undefined;

/** The screen of this process, found on first use. */
export function currentScreen(): Screen {
  globalScreen ??= openScreen(globalThis as unknown as NotebookScope);
  return globalScreen;
}

/** Where this code runs: `"deno-notebook"`, `"tslab"`, or `"terminal"` (everywhere else). */
export function runtimeName(scope: NotebookScope = globalThis as unknown as NotebookScope): RuntimeName {
  if (denoJupyter(scope)) return "deno-notebook";
  return scope.__tslab__?.require ? "tslab" : "terminal";
}

/** Finds the kernel in `scope` and opens a screen on it; a terminal if there is none. */
export function openScreen(scope: NotebookScope): Screen {
  const runtime = runtimeName(scope);
  const openSlot = runtime === "deno-notebook"
    ? denoSlots(denoJupyter(scope)!)
    : runtime === "tslab"
    ? tslabSlots(scope.__tslab__!.require!("tslab") as Tslab)
    : terminalSlots();

  let last: Promise<unknown> = Promise.resolve();
  return {
    runtime,
    openSlot() {
      const draw = openSlot();
      return {
        draw(bundle) {
          const drawn = last.then(() => draw(bundle));
          last = drawn.catch(() => {}); // the caller sees the failure; the next drawing still happens
          return drawn;
        },
      };
    },
  };
}

/** Makes one slot: returns its drawing function. */
type SlotMaker = () => (bundle: MimeBundle) => Promise<void> | void;

function denoSlots(jupyter: DenoJupyter): SlotMaker {
  return () => {
    const displayId = crypto.randomUUID();
    let type = "display_data";
    return async (bundle) => {
      const drainMs = type === "display_data" ? denoDrainMs.first : denoDrainMs.next;
      await jupyter.broadcast(type, { data: bundle, metadata: {}, transient: { display_id: displayId } });
      type = "update_display_data";
      await new Promise((resolve) => setTimeout(resolve, drainMs));
    };
  };
}

function tslabSlots(tslab: Tslab): SlotMaker {
  return () => {
    const display = tslab.newDisplay();
    return (bundle) => {
      const mediaType = richestFirst.find((type) => bundle[type] !== undefined)!;
      display.raw(mediaType, bundle[mediaType]!);
    };
  };
}

function terminalSlots(): SlotMaker {
  return () => (bundle) => console.log(bundle["text/plain"]);
}

function denoJupyter(scope: NotebookScope): DenoJupyter | undefined {
  try {
    return scope.Deno?.jupyter;
  } catch {
    return undefined; // outside a notebook the getter throws
  }
}
