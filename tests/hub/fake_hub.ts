/**
 * A Hub on this machine: an API with lists and files at commits, and another host that keeps the large files, as the real
 * one has. What it is asked is written down, and it can break, stall, lie and refuse.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A request as it came in. */
export interface SeenRequest {
  readonly host: "hub" | "storage";
  readonly method: string;
  readonly url: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
  /** Bytes of content that were sent. */
  sentBytes: number;
}

/** What can go wrong; each is used up after so many requests. */
export interface Trouble {
  /** Ends the connection after so many bytes of content. */
  breakAfterBytes?: number;
  /** Sends nothing any more after so many bytes, but keeps the connection. */
  stallAfterBytes?: number;
  /** Answers with a status. */
  status?: number;
  headers?: Record<string, string>;
  host: "hub" | "storage";
  times: number;
}

/** Repository of the fake Hub. */
export const repo = "someone/tiny-sae";

/** Its commits, the newest first. */
export const commits = ["c".repeat(40), "b".repeat(40)] as const;

/** A fake Hub, running. */
export interface FakeHub {
  readonly url: string;
  readonly seen: SeenRequest[];
  readonly troubles: Trouble[];
  /** Content of `main` by path; the commit before it only has what is in `older`. */
  readonly files: Map<string, FakeFile>;
  readonly older: Map<string, FakeFile>;
  /** Token that is asked for, and how. */
  access: { kind: "open" | "gated" | "private"; token: string };
  /** Waits so long after each 64 KiB, in milliseconds. */
  delayMs: number;
  /** Whether storage understands ranges. */
  ranges: boolean;
  sentBytes(): number;
  close(): Promise<void>;
}

/** A file; large ones are kept by the other host. */
export interface FakeFile {
  readonly content: Uint8Array;
  readonly isLarge: boolean;
  /** What is sent instead. */
  readonly corrupted?: Uint8Array;
}

/** SHA-256 of content, or what Git calls it. */
export function etagOf({ content, isLarge }: FakeFile): string {
  if (isLarge) return createHash("sha256").update(content).digest("hex");
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

/** Content that looks like nothing else. */
export function contentOf(sizeBytes: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length: sizeBytes }, () => (state = (state * 1103515245 + 12345) % 2 ** 31) >> 16);
}

const pieceBytes = 2 ** 16;
const pageSize = 2;

/** Starts one. */
export async function startFakeHub(): Promise<FakeHub> {
  const seen: SeenRequest[] = [];
  const troubles: Trouble[] = [];
  const files = new Map<string, FakeFile>([
    ["cfg.json", { content: new TextEncoder().encode('{"d_in": 3}'), isLarge: false }],
    ["layer 3/sae.pt", { content: contentOf(300_001), isLarge: true }],
    ["README.md", { content: new TextEncoder().encode("# A tiny SAE\n"), isLarge: false }],
  ]);
  const older = new Map<string, FakeFile>([
    ["cfg.json", { content: new TextEncoder().encode('{"d_in": 2}'), isLarge: false }],
  ]);
  const listen = async (handle: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> => {
    const server = createServer(handle);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return server;
  };
  const originOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  /** Notes a request, and answers it if it is to go wrong at once. */
  const begin = (host: SeenRequest["host"], request: IncomingMessage, response: ServerResponse) => {
    const { method = "", url = "", headers: { authorization, range } } = request;
    const entry: SeenRequest = { host, method, url, authorization, range, sentBytes: 0 };
    seen.push(entry);
    const trouble = troubles.find((one) => one.host === host && one.times > 0);
    if (trouble) trouble.times--;
    if (trouble?.status) response.writeHead(trouble.status, trouble.headers).end();
    return { entry, trouble, isAnswered: trouble?.status !== undefined };
  };

  const send = async (
    response: ServerResponse,
    options: { entry: SeenRequest; content: Uint8Array; trouble: Trouble | undefined; headers: Record<string, string> },
  ) => {
    const { entry, content, trouble } = options;
    const from = hub.ranges ? Number(entry.range?.match(/^bytes=(\d+)-$/)?.[1] ?? 0) : 0;
    response.writeHead(from > 0 ? 206 : 200, {
      ...options.headers,
      "content-length": String(content.length - from),
      ...(from > 0 && { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
    });
    if (entry.method === "HEAD") return response.end();
    const stop = trouble?.breakAfterBytes ?? trouble?.stallAfterBytes ?? Infinity;
    for (let at = from; at < content.length;) {
      if (response.destroyed) return;
      const end = Math.min(at + pieceBytes, content.length, from + stop);
      await new Promise<void>((resolve) => response.write(content.subarray(at, end), () => resolve()));
      entry.sentBytes += end - at;
      at = end;
      if (at - from >= stop) {
        // What was written has to leave before the connection ends.
        await new Promise((resolve) => setTimeout(resolve, 30));
        if (trouble?.breakAfterBytes !== undefined) response.destroy();
        return;
      }
      if (hub.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, hub.delayMs));
    }
    response.end();
  };

  const storage = await listen((request, response) => {
    const { entry, trouble, isAnswered } = begin("storage", request, response);
    if (isAnswered) return;
    const file = [...files.values(), ...older.values()].find((one) => `/${etagOf(one)}` === entry.url);
    if (file === undefined) return response.writeHead(404).end();
    void send(response, { entry, content: file.corrupted ?? file.content, trouble, headers: {} });
  });

  const api = await listen((request, response) => {
    const { entry, trouble, isAnswered } = begin("hub", request, response);
    if (isAnswered) return;
    const url = new URL(entry.url, "http://hub");
    const refuse = (status: number, code: string) => response.writeHead(status, { "x-error-code": code }).end();
    const match = url.pathname.match(/^\/(?:api\/models\/|datasets\/)?([^/]+\/[^/]+)\/(resolve|tree)\/([^/]+)\/?(.*)$/);
    if (match === null || (match[1] !== repo && match[1] !== "someone/renamed")) return refuse(401, "RepoNotFound");
    if (hub.access.kind !== "open" && entry.authorization !== `Bearer ${hub.access.token}`) {
      return refuse(entry.authorization ? 403 : 401, hub.access.kind === "gated" ? "GatedRepo" : "RepoNotFound");
    }
    const [, name, what] = match;
    if (name === "someone/renamed") {
      return response.writeHead(307, { location: entry.url.replace(name, repo) }).end();
    }
    const [revision, path] = [match[3], match[4]].map(decodeURIComponent);
    const commit = revision === "main" || revision === "refs/pr/1"
      ? commits[0]
      : revision === "v1"
      ? commits[1]
      : revision;
    if (!commits.some((known) => known === commit)) return refuse(404, "RevisionNotFound");
    const content = commit === commits[0] ? files : older;
    if (what === "tree") return list(response, { url, content, under: path });
    const file = content.get(path);
    if (file === undefined) return refuse(404, "EntryNotFound");
    const etag = `"${etagOf(file)}"`;
    const headers = { "x-repo-commit": commit, etag };
    if (!file.isLarge) return void send(response, { entry, content: file.corrupted ?? file.content, trouble, headers });
    // Another name of this machine: to some clients two ports of one name are the same host.
    response.writeHead(302, {
      ...headers,
      etag: '"of-the-redirect"',
      "x-linked-etag": etag,
      "x-linked-size": String(file.content.length),
      location: `${originOf(storage).replace("127.0.0.1", "localhost")}/${etagOf(file)}`,
    }).end();
  });

  const list = (
    response: ServerResponse,
    options: { url: URL; content: Map<string, FakeFile>; under: string },
  ) => {
    const { url, content, under } = options;
    const from = Number(url.searchParams.get("cursor") ?? 0);
    const entries = [...content].filter(([path]) => under === "" || path.startsWith(`${under}/`)).map(
      ([path, file]) => {
        const size = file.content.length;
        const lfs = file.isLarge ? { lfs: { oid: etagOf(file), size, pointerSize: 130 } } : {};
        return { type: "file", path, size, oid: "0".repeat(40), ...lfs };
      },
    );
    url.searchParams.set("cursor", String(from + pageSize));
    const next = `${originOf(api)}${url.pathname}${url.search}`;
    response.writeHead(200, {
      "content-type": "application/json",
      ...(from + pageSize < entries.length && { link: `<${next}>; rel="next"` }),
    }).end(JSON.stringify([{ type: "directory", path: "layer 3", size: 0 }, ...entries.slice(from, from + pageSize)]));
  };

  const hub: FakeHub = {
    url: originOf(api),
    seen,
    troubles,
    files,
    older,
    access: { kind: "open", token: "" },
    delayMs: 0,
    ranges: true,
    sentBytes: () => seen.reduce((sum, { sentBytes }) => sum + sentBytes, 0),
    close: async () => {
      for (const server of [api, storage]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
  return hub;
}
