import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { openHttpSource } from "../../lib/tensors/http_source.ts";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import { writeSafetensors } from "../../lib/tensors/safetensors.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { withHub } from "../hub/with_hub.ts";
import { fixturePath } from "./run_sae.ts";

interface FileServer {
  readonly url: string;
  /** Paths that were asked for, with the range. */
  readonly seen: string[];
  readonly files: Map<string, Uint8Array>;
  ranges: boolean;
  /** Ends so many connections halfway. */
  breaks: number;
  etag: string;
  sentBytes: number;
}

// What the server answers for what it does not have.
const statuses: Record<string, number> = { "/broken.pt": 500, "/signed/config.json": 403 };

/** A server of files, with or without ranges, for one test. */
async function withServer(test: (server: FileServer) => Promise<void>): Promise<void> {
  const state: Omit<FileServer, "url"> = {
    seen: [],
    files: new Map(),
    ranges: true,
    breaks: 0,
    etag: '"1"',
    sentBytes: 0,
  };
  const server = createServer((request, response) => {
    const path = new URL(request.url!, "http://localhost").pathname;
    const content = state.files.get(decodeURIComponent(path));
    state.seen.push(`${path} ${request.headers.range ?? ""}`);
    if (content === undefined) return response.writeHead(statuses[path] ?? 404).end();
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    const hasRange = state.ranges && from !== undefined;
    if (hasRange && Number(from) >= content.length) return response.writeHead(416).end();
    const body = hasRange ? content.subarray(Number(from), Number(to) + 1) : content;
    const headers: Record<string, string> = { etag: state.etag, "content-length": String(body.length) };
    if (hasRange) headers["content-range"] = `bytes ${from}-${Number(from) + body.length - 1}/${content.length}`;
    response.writeHead(hasRange ? 206 : 200, headers);
    if (state.breaks > 0 && Number(from) > 0) {
      state.breaks--;
      state.sentBytes += body.length >> 1;
      return response.write(body.subarray(0, body.length >> 1), () => response.destroy());
    }
    state.sentBytes += body.length;
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await test(Object.assign(state, { url }));
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

async function serveFolder({ files }: FileServer, from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) files.set(`${to}${name}`, await readFile(join(from, name)));
}

const prisma = fixturePath("dictionaries", "vit_prisma_topk");

Deno.test("loadSae() opens a path, a folder, a configuration, a file URL and bytes alike", async () => {
  const expected = await loadSae(prisma);
  assert.equal(expected.provenance.format, "ViT-Prisma");
  const config = JSON.parse(await readFile(join(prisma, "config.json"), "utf8"));
  for (
    const source of [
      join(prisma, "weights.pt"),
      join(prisma, "config.json"),
      pathToFileURL(join(prisma, "weights.pt")),
      String(pathToFileURL(`${prisma}/`)),
    ]
  ) {
    assert.deepEqual(await loadSae(source), expected);
  }
  assert.deepEqual(await loadSae(await readFile(join(prisma, "weights.pt")), { config }), expected);
});

Deno.test("loadSae() takes the last of ViT-Prisma's snapshots, and asks where it cannot choose", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-source-"));
  try {
    await cp(fixturePath("dictionaries", "vit_prisma_relu"), folder, { recursive: true });
    assert.equal((await loadSae(folder)).dSae, 32);
    const bytes = await readFile(fixturePath("saev", "s5_HEAD_Relu.pt"));
    for (const name of ["n_images_2600058.pt", "n_images_130003.pt", "config.json"]) await rm(join(folder, name));
    await writeFile(join(folder, "mean.pt"), "");
    await assert.rejects(loadSae(folder), {
      name: "Error",
      message: /must hold sae_weights.safetensors, .* it holds none$/,
    });
    await writeFile(join(folder, "a.pt"), bytes);
    assert.equal((await loadSae(folder)).provenance.format, "saev, schema 5");
    await writeFile(join(folder, "b.pt"), bytes);
    await assert.rejects(loadSae(folder), { name: "Error", message: /it holds a.pt, b.pt: choose one$/ });
  } finally {
    await rm(folder, { recursive: true });
  }
});

Deno.test("loadSae() opens URLs of files and folders, with and without ranges", async () => {
  await withServer(async (server) => {
    await serveFolder(server, prisma, "/my saes/");
    for (const ranges of [true, false]) {
      server.ranges = ranges;
      for (const path of ["/my%20saes/weights.pt", "/my%20saes/"]) {
        assert.deepEqual(await loadSae(server.url + path), await loadSae(prisma));
        assert.deepEqual(await loadSae(new URL(server.url + path)), await loadSae(prisma));
      }
    }
    // sparsify names folders by their hook points.
    await serveFolder(server, fixturePath("dictionaries", "sparsify"), "/saes/layers.24.mlp/");
    const { layer, hook, format } = (await loadSae(`${server.url}/saes/layers.24.mlp/sae.safetensors`)).provenance;
    assert.deepEqual([layer, hook, format], [24, "mlpOut", "sparsify"]);
    // Links that are signed are good for one file.
    server.files.set("/signed/sae.pt", await readFile(fixturePath("dictionaries", "overcomplete_relu", "sae.pth")));
    assert.equal((await loadSae(`${server.url}/signed/sae.pt?token=secret`)).provenance.format, "Overcomplete");
    await assert.rejects(loadSae(`${server.url}/nothing.pt?token=secret`), {
      name: "Error",
      message: `Cannot open SAE ${server.url}/nothing.pt: the server must have a file of that name, it has none`,
    });
    await assert.rejects(loadSae(`${server.url}/nothing/`), {
      message: /the server must have one of sae_weights.safetensors, .*, it has none$/,
    });
    await assert.rejects(loadSae(`${server.url}/broken.pt`), {
      message: `Cannot open SAE ${server.url}/broken.pt: the server must give it out, it answers 500`,
    });
  });
  await assert.rejects(loadSae("http://127.0.0.1:1/sae.pt"), {
    name: "Error",
    message: /^Cannot open SAE http:\/\/127.0.0.1:1\/sae.pt: the server must be reachable \(/,
  });
});

Deno.test("openTensorFile() reads a row of a file on a server without reading the file", async () => {
  await withServer(async (server) => {
    const [rows, columns] = [4000, 64];
    const data = Float32Array.from({ length: rows * columns }, (_, i) => i);
    server.files.set("/big.safetensors", writeSafetensors({ W_dec: { shape: [rows, columns], data } }));
    const file = await openTensorFile(`${server.url}/big.safetensors`);
    const row = await file.readRows("W_dec", { first: 3000, count: 1 });
    assert.deepEqual(row, data.subarray(3000 * columns, 3001 * columns));
    assert.equal(server.seen.length, 2);
    assert.equal(server.sentBytes, 2 ** 16 + 4 * columns);
    await file.close();
  });
});

Deno.test("openHttpSource() goes on where a connection broke, and stops if the file changes", async () => {
  await withServer(async (server) => {
    const content = Uint8Array.from({ length: 300_000 }, (_, i) => i * 7);
    server.files.set("/file", content);
    const source = await openHttpSource(new URL(`${server.url}/file`));
    server.breaks = 2;
    assert.deepEqual(await source!.read(70_000, 200_000), content.slice(70_000, 270_000));
    assert.equal(server.seen.length, 4);
    assert.match(server.seen[3], /^\/file bytes=\d+-269999$/);
    server.breaks = 9;
    await assert.rejects(source!.read(70_000, 200_000), { name: "Error", message: /the server must be reachable/ });
    server.breaks = 0;
    server.etag = '"2"';
    await assert.rejects(source!.read(70_000, 200_000), {
      name: "SyntaxError",
      message: `Cannot read ${server.url}/file: the file must stay as it is, it changed while it was read`,
    });
    await assert.rejects(source!.read(299_999, 2), { name: "SyntaxError", message: /must lie within the file/ });
    server.files.set("/empty", new Uint8Array());
    assert.equal((await openHttpSource(new URL(`${server.url}/empty`)))!.size, 0);
    const stopped = AbortSignal.abort(new Error("stopped"));
    await assert.rejects(loadSae(`${server.url}/file`, { signal: stopped }), { message: "stopped" });
  });
});

Deno.test("loadSae() opens files and folders of the Hub, and what is in the cache without it", async () => {
  await withHub(async (fake, hub) => {
    for (const name of await readdir(prisma)) {
      const content = new Uint8Array(await readFile(join(prisma, name)));
      fake.files.set(`layer_9/${name}`, { content, isLarge: name.endsWith(".pt") });
    }
    const expected = await loadSae(prisma);
    const sources = ["hf:someone/tiny-sae/layer_9", "hf:someone/tiny-sae@main/layer_9/weights.pt"];
    for (const source of sources) assert.deepEqual(await loadSae(source, { hub }), expected, source);
    const offline = { ...hub, offline: true };
    for (const source of sources) assert.deepEqual(await loadSae(source, { hub: offline }), expected, source);
    await assert.rejects(loadSae("hf:someone/tiny-sae/layer_8/weights.pt", { hub }), {
      message: /^Cannot open SAE hf:someone\/tiny-sae\/layer_8\/weights.pt: .*must exist/,
    });
    await assert.rejects(loadSae("hf:someone/tiny-sae/layer_7", { hub: offline }), {
      message: /the Hub must be reachable, and none of its files is in the cache$/,
    });
  });
});

Deno.test("loadSae() follows a sidecar beside the weights, wherever they are", async () => {
  const sidecar = {
    format: "sparsight-normalization",
    version: 1,
    subtract_b_dec: false,
    note: "measured on 1000 tokens",
    normalization: { kind: "affine", mean: Array(8).fill(0.5), scale: Array(8).fill(2) },
  };
  await withServer(async (server) => {
    await serveFolder(server, prisma, "/saes/");
    server.files.set("/saes/weights.pt.normalization.json", new TextEncoder().encode(JSON.stringify(sidecar)));
    const sae = await loadSae(`${server.url}/saes/weights.pt`);
    assert.deepEqual(sae.normalization, {
      kind: "affine",
      mean: new Float32Array(8).fill(0.5),
      scale: new Float32Array(8).fill(2),
    });
    assert.equal(sae.subtractBDec, false);
    assert.ok(
      sae.provenance.decisions!.includes(
        "b_dec is not subtracted from the input: its sidecar says so (measured on 1000 tokens)",
      ),
    );
    const overruled = await loadSae(`${server.url}/saes/weights.pt`, { normalization: { kind: "none" } });
    assert.deepEqual(overruled.normalization, { kind: "none" });
    server.files.set("/saes/weights.pt.normalization.json", new TextEncoder().encode("{"));
    await assert.rejects(loadSae(`${server.url}/saes/weights.pt`), {
      name: "SyntaxError",
      message: `Cannot open SAE ${server.url}/saes/weights.pt: weights.pt.normalization.json: it must be JSON`,
    });
  });
});
