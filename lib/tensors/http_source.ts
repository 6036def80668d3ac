/**
 * Bytes of a file that an HTTP server has, read by Range requests, so that one row of a checkpoint of gigabytes costs
 * kilobytes. A server that knows no ranges is asked once, for the whole file. A connection that breaks is taken up where
 * it broke.
 *
 * @module
 */
import { type ByteSource, damaged, openByteSource, rangeSource } from "./byte_source.ts";

/** Options of {@linkcode openHttpSource}. */
export interface HttpSourceOptions {
  /**
   * Stops requests.
   *
   * @default never
   */
  signal?: AbortSignal;
  /**
   * Take what the server does not give out as missing: some servers answer so for what they do not have.
   *
   * @default {false}
   */
  forbiddenIsMissing?: boolean;
}

// Headers of most checkpoints fit in the first answer.
const FIRST_READ_BYTES = 2 ** 16;
const MAX_ATTEMPTS = 4;
const RETRY_DELAY_MS = 200;

/**
 * Opens what a URL names; `undefined` if the server has none.
 *
 * @throws {Error} If the server cannot be reached or refuses.
 */
export async function openHttpSource(url: URL, options: HttpSourceOptions = {}): Promise<ByteSource | undefined> {
  const name = nameOf(url);
  const first = await request(url, { from: 0, to: FIRST_READ_BYTES }, options).catch((error) => {
    throw unreachable(url, error);
  });
  const missing = options.forbiddenIsMissing ? [404, 410, 401, 403] : [404, 410];
  if (missing.includes(first.status)) {
    await first.body?.cancel();
    return undefined;
  }
  // What a server answers to any range of an empty file.
  if (first.status === 416) {
    await first.body?.cancel();
    return { ...await openByteSource(new Uint8Array()), name };
  }
  const size = Number(/^bytes 0-\d+\/(\d+)$/.exec(first.headers.get("content-range") ?? "")?.[1] ?? NaN);
  if (first.status !== 206 || !Number.isSafeInteger(size)) {
    if (!first.ok) throw await refusal(first, url);
    if (first.status === 206) await first.body?.cancel();
    // One that was answered in part without saying of what is asked for again, whole.
    const whole = first.status === 206 ? await request(url, undefined, options) : first;
    if (!whole.ok) throw await refusal(whole, url);
    return { ...await openByteSource(new Uint8Array(await whole.arrayBuffer())), name };
  }
  const etag = first.headers.get("etag");
  const head = new Uint8Array(await first.arrayBuffer());
  const source = rangeSource(name, size, {
    async readInto(target, position) {
      if (position + target.length <= head.length) {
        return target.set(head.subarray(position, position + target.length));
      }
      let done = 0;
      for (let attempt = 1; done < target.length; attempt++) {
        try {
          const range = { from: position + done, to: position + target.length };
          const response = await request(url, range, options);
          if (response.status >= 500) throw new TypeError(`it answers ${response.status}`);
          if (response.status !== 206) throw await refusal(response, url);
          const [, from, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "") ?? [];
          if (Number(from) !== range.from || Number(total) !== size || response.headers.get("etag") !== etag) {
            await response.body?.cancel();
            throw damaged(name, "the file must stay as it is, it changed while it was read");
          }
          for await (const bytes of response.body!) {
            if (done + bytes.length > target.length) {
              throw damaged(name, `the server must answer with the bytes that were asked for, it gives more`);
            }
            target.set(bytes, done);
            done += bytes.length;
          }
          if (done < target.length) throw new TypeError("the connection ended early");
        } catch (error) {
          options.signal?.throwIfAborted();
          if (!(error instanceof TypeError)) throw error;
          if (attempt >= MAX_ATTEMPTS) throw unreachable(url, error);
          await new Promise((resolve) => setTimeout(resolve, attempt * RETRY_DELAY_MS));
        }
      }
    },
    close: () => Promise.resolve(),
  });
  return source;
}

/** Asks for a part, or for all; a connection that fails is a TypeError, as `fetch()` has it. */
async function request(
  url: URL,
  range: { from: number; to: number } | undefined,
  { signal }: HttpSourceOptions,
): Promise<Response> {
  const headers = new Headers({ "accept-encoding": "identity" });
  if (range !== undefined) headers.set("range", `bytes=${range.from}-${range.to - 1}`);
  return await fetch(url, { headers, signal });
}

/** The address without a query: those of signed links are secrets. */
function nameOf(url: URL): string {
  return url.origin + url.pathname;
}

function unreachable(url: URL, error: unknown): unknown {
  if (!(error instanceof TypeError)) return error;
  const { message, cause } = error;
  const reason = cause instanceof Error ? cause.message : message;
  return new Error(`Cannot read ${nameOf(url)}: the server must be reachable (${reason})`, { cause: error });
}

async function refusal(response: Response, url: URL): Promise<Error> {
  await response.body?.cancel();
  return new Error(`Cannot read ${nameOf(url)}: the server must give it out, it answers ${response.status}`);
}
