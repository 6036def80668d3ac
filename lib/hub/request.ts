/**
 * Requests to the Hub. Redirects are followed here, by hand, so that the access token goes to the Hub alone: large files
 * live on other hosts, and so may the next page of a list. What may pass, such as a broken connection or a busy server,
 * is tried again; everything else becomes an error that says what helps.
 *
 * @module
 */
import { formatHubSource, type HubSource, revisionOf } from "./source.ts";
import type { HubSettings } from "./settings.ts";

/** Attempts before the other side is taken to be out of reach. */
export const MAX_ATTEMPTS = 5;

const MAX_REDIRECTS = 8;
const MAX_WAIT_MS = 60_000;

/** What may work another time: no connection, silence, a server that is busy or broken. */
export class HubUnreachableError extends Error {
  /** How long the server asked to wait, in milliseconds. */
  readonly retryAfterMs: number;

  constructor(message: string, options: ErrorOptions & { retryAfterMs?: number } = {}) {
    super(message, options);
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

/** A request for something. */
export interface HubRequest {
  readonly url: string;
  readonly method?: "GET" | "HEAD";
  readonly headers?: Readonly<Record<string, string>>;
  /** What is wanted, for messages. */
  readonly source: HubSource;
  /** Whether to stop at a redirect to another host, and take what the Hub says about the file. */
  readonly stayOnHub?: boolean;
}

/** An answer, and the headers of every answer on the way to it, the last ones winning. */
export interface HubAnswer {
  readonly response: Response;
  readonly headers: Headers;
}

/**
 * Asks once.
 *
 * @throws {HubUnreachableError} If it is worth another attempt.
 * @throws {Error} If the Hub refuses.
 */
export async function askHub(request: HubRequest, settings: HubSettings): Promise<HubAnswer> {
  const { method = "GET", source, stayOnHub } = request;
  const hubOrigin = new URL(settings.hubUrl).origin;
  const headers = new Headers();
  let url = new URL(request.url);
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const isHub = url.origin === hubOrigin;
    const sent = new Headers(request.headers);
    if (isHub && settings.token) sent.set("authorization", `Bearer ${settings.token}`);
    const response = await fetchWithin(url, { method, headers: sent, redirect: "manual" }, { source, settings });
    response.headers.forEach((value, name) => headers.set(name, value));
    const location = response.status >= 300 && response.status < 400 && response.headers.get("location");
    if (!location) {
      if (response.ok) return { response, headers };
      await response.body?.cancel();
      throw refusal(response, { source, settings, isHub });
    }
    const next = new URL(location, url);
    await response.body?.cancel();
    if (stayOnHub && next.origin !== hubOrigin) return { response, headers };
    if (!/^https?:$/.test(next.protocol)) break;
    url = next;
  }
  throw new Error(`Cannot fetch ${formatHubSource(source)}: redirects must lead to a file, they do not end`);
}

async function fetchWithin(
  url: URL,
  init: RequestInit,
  context: { source: HubSource; settings: HubSettings },
): Promise<Response> {
  const { source, settings: { signal, timeoutMs, hubUrl } } = context;
  signal?.throwIfAborted();
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
  try {
    // The caller's signal goes on to stop the body; the timer ends with the headers.
    return await fetch(url, { ...init, signal: signal ? AbortSignal.any([signal, silence.signal]) : silence.signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw new HubUnreachableError(
      `Cannot fetch ${formatHubSource(source)}: the Hub must be reachable at ${hubUrl} (${
        reasonOf(error)
      }); check the ` +
        `network, or set HF_ENDPOINT to a mirror`,
      { cause: error },
    );
  } finally {
    clearTimeout(timer);
  }
}

/** Why a connection failed, in a few words: runtimes hide it at various depths. */
export function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  if (cause instanceof Error) return reasonOf(cause);
  return (error as { code?: string }).code ?? message;
}

function refusal(
  response: Response,
  context: { source: HubSource; settings: HubSettings; isHub: boolean },
): Error {
  const { source, settings: { hubUrl, token }, isHub } = context;
  const { status } = response;
  const code = response.headers.get("x-error-code");
  const cannot = `Cannot fetch ${formatHubSource(source)}:`;
  const said = response.headers.get("x-error-message")?.replace(/\s+/g, " ").slice(0, 200);
  if (status >= 500 || status === 408 || status === 429) {
    const retryAfterMs = Number(response.headers.get("retry-after") ?? 0) * 1000 || 0;
    const what = status === 429 ? "the Hub must not be asked so often" : "the Hub must be working";
    return new HubUnreachableError(`${cannot} ${what}, it answers ${status}; try again later`, { retryAfterMs });
  }
  if (!isHub) return new Error(`${cannot} the host that keeps it must give it out, it answers ${status}`);
  const page = `${hubUrl}/${source.kind === "dataset" ? "datasets/" : ""}${source.repo}`;
  if (code === "GatedRepo") {
    return new Error(
      `${cannot} its license must be accepted first: open ${page}, accept, and ` +
        (token ? "use a token of that account, the one that is set has no access" : "set HF_TOKEN to an access token"),
    );
  }
  if (code === "EntryNotFound") {
    return new Error(`${cannot} ${source.path} must exist in ${source.repo} at ${revisionOf(source)}, it does not`);
  }
  if (code === "RevisionNotFound") {
    return new Error(`${cannot} ${revisionOf(source)} must be a branch, tag or commit of ${source.repo}, it is not`);
  }
  if (status === 401 || status === 404) {
    // The Hub answers the same for what is not there and for what is not to be seen.
    return new Error(
      `${cannot} ${source.repo} must exist and be readable, the Hub answers ${status}; check the name, ` +
        (token ? "and that the token may read it" : "and set HF_TOKEN if it is private"),
    );
  }
  return new Error(`${cannot} the Hub must give it out, it answers ${status}${said ? `: ${said}` : ""}`);
}

/**
 * Tries until it works, with growing waits, as long as what fails may pass.
 *
 * @throws What the last attempt threw.
 */
export async function persistently<T>(
  settings: HubSettings,
  attempt: () => Promise<T>,
  options: { attempts?: number } = {},
): Promise<T> {
  const { attempts = MAX_ATTEMPTS } = options;
  for (let failures = 0;; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof HubUnreachableError) || failures + 1 >= attempts) throw error;
      await backOff(settings, { failures, error });
    }
  }
}

/** Waits after a failure: twice as long after each, and at least as long as the server asked for. */
export async function backOff(
  settings: HubSettings,
  after: { failures: number; error: HubUnreachableError },
): Promise<void> {
  const { retryDelayMs, signal } = settings;
  const waitMs = Math.min(Math.max(retryDelayMs * 2 ** after.failures, after.error.retryAfterMs), MAX_WAIT_MS);
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, waitMs);
    signal?.addEventListener("abort", done);
  });
  signal?.throwIfAborted();
}
