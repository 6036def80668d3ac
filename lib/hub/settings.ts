/**
 * Where the Hub is, where its files are kept, and who asks: options first, then the environment variables and files that
 * Python's `huggingface_hub` reads, so that a machine that is set up for one is set up for both.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** Options of everything that asks the Hub. */
export interface HubOptions {
  /**
   * Folder of the cache, laid out as Python's `huggingface_hub` does it; both may share it.
   *
   * @default `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME/hub`, `XDG_CACHE_HOME/huggingface/hub`, or
   * `~/.cache/huggingface/hub`
   */
  cacheDir?: string;
  /**
   * Where the Hub is.
   *
   * @default `HF_ENDPOINT`, or the public Hub
   */
  hubUrl?: string;
  /**
   * Access token for gated and private repositories. It is sent to `hubUrl` and nowhere else. An empty string sends
   * none.
   *
   * @default `HF_TOKEN`, or the file that `hf auth login` writes
   */
  token?: string;
  /**
   * Takes what is in the cache and asks nobody.
   *
   * @default whether `HF_HUB_OFFLINE` is 1
   */
  offline?: boolean;
  /**
   * Branch, tag or commit, if the source does not name one.
   *
   * @default {"main"}
   */
  revision?: string;
  /** Stops; what has been downloaded is kept and gone on with next time. */
  signal?: AbortSignal;
  /** Is called with the bytes that are there, the bytes of the whole file, and its path in the repository. */
  onProgress?: (doneBytes: number, totalBytes: number, file: string) => void;
  /**
   * How long the other side may be silent before the connection is given up, in milliseconds.
   *
   * @default {10000}
   */
  timeoutMs?: number;
  /**
   * Wait before the first of four new attempts, in milliseconds; it doubles each time.
   *
   * @default {500}
   */
  retryDelayMs?: number;
}

/** Options with everything decided. */
export interface HubSettings {
  readonly cacheDir: string;
  /** Without a slash at its end. */
  readonly hubUrl: string;
  readonly token: string | undefined;
  readonly offline: boolean;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly retryDelayMs: number;
}

/**
 * Decides what the options leave open.
 *
 * @throws {TypeError} If the address of the Hub or the token cannot be one.
 */
export async function hubSettings(options: HubOptions): Promise<HubSettings> {
  const env = process.env;
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  const { signal, timeoutMs = 10_000, retryDelayMs = 500 } = options;
  const hubUrl = (options.hubUrl || env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  if (!URL.canParse(hubUrl) || !/^https?:/.test(hubUrl)) {
    throw new TypeError(`Cannot use the Hub: its address must be a URL of http or https, current value is ${hubUrl}`);
  }
  return {
    cacheDir: expandHome(
      options.cacheDir || env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, "hub"),
    ),
    hubUrl,
    token: checkToken(options.token ?? await configuredToken(env, home)),
    offline: options.offline ?? (isOn(env.HF_HUB_OFFLINE) || isOn(env.TRANSFORMERS_OFFLINE)),
    signal,
    timeoutMs,
    retryDelayMs,
  };
}

async function configuredToken(env: NodeJS.ProcessEnv, home: string): Promise<string> {
  if (isOn(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return "";
  const file = expandHome(env.HF_TOKEN_PATH || join(home, "token"));
  return env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || await readFile(file, "utf8").catch(() => "");
}

function checkToken(text: string): string | undefined {
  const token = text.trim();
  // Its value must not get into a message.
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new TypeError("Cannot use the Hub: the access token must be one word of ASCII characters, it is not");
  }
  return token || undefined;
}

function isOn(value: string | undefined): boolean {
  return ["1", "ON", "YES", "TRUE"].includes(value?.toUpperCase() ?? "");
}

function expandHome(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}
