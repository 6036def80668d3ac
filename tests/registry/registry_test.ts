import assert from "node:assert/strict";
import { join } from "node:path";
import { checkpointFormats } from "../../lib/checkpoints/dictionary.ts";
import { parseHubSource } from "../../lib/hub/hub.ts";
import {
  findPublicCheckpoint,
  findPublicSae,
  listPublicCheckpoints,
  type PublicSae,
  publicSaes,
  publicSaesFor,
} from "../../lib/registry/registry.ts";
import { repo } from "../hub/fake_hub.ts";
import { withHub } from "../hub/with_hub.ts";

/** Every sentence and name of an entry. */
function texts(sae: PublicSae): string[] {
  const { title, architecture, normalization, license, traps, inferred, references } = sae;
  return [title, architecture, normalization, license, ...traps, ...inferred, ...references];
}

Deno.test("publicSaes have ids of their own, and say something everywhere", () => {
  assert.equal(new Set(publicSaes.map(({ id }) => id)).size, publicSaes.length);
  for (const sae of publicSaes) {
    assert.match(sae.id, /^[a-z0-9-]{1,22}$/);
    assert.ok(texts(sae).every((text) => text.trim() === text && text.length > 2), sae.id);
    assert.ok(sae.traps.length > 0 && sae.inferred.length > 0 && sae.references.length > 0, sae.id);
    assert.ok(sae.references.every((reference) => URL.canParse(reference)), sae.id);
    assert.ok(sae.traps.every((trap) => trap.endsWith(".")), sae.id);
  }
});

Deno.test("publicSaes name files of the Hub", () => {
  for (const { id, backbone, checkpoints, manifest, pattern } of publicSaes) {
    const sources = checkpoints.map(({ source }) => source);
    assert.equal(new Set(sources).size, sources.length, id);
    assert.ok(sources.length > 0 || manifest !== undefined, id);
    for (const source of sources) assert.equal(parseHubSource(source).kind, "model");
    for (const file of [backbone.onnx, manifest]) assert.ok(file === undefined || parseHubSource(file).path !== "");
    assert.ok(backbone.onnx?.endsWith(".onnx") ?? true, id);
    assert.match(backbone.original, /^[\w-]+\/[\w.-]+$/);
    assert.equal(parseHubSource(pattern.replace(/\{\w+\}/g, "0")).kind, "model");
  }
});

Deno.test("publicSaes have names of files that follow their pattern", () => {
  for (const { id, pattern, checkpoints } of publicSaes) {
    const escaped = pattern.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{\w+\}/g, ".+");
    for (const { source } of checkpoints) assert.match(source, new RegExp(`^${escaped}$`), id);
  }
});

Deno.test("publicSaes have numbers that can be", () => {
  for (const { id, backbone, layers, dModel, dSae, checkpoints, options } of publicSaes) {
    assert.ok(layers.length > 0 && layers.every((layer, i) => layer > (layers[i - 1] ?? -1)), id);
    assert.ok(layers[layers.length - 1] < backbone.nLayers, id);
    assert.ok([384, 768, 1024].includes(dModel), id);
    assert.ok(dSae >= dModel && dSae % 64 === 0, id);
    assert.ok(checkpointFormats.includes(options.format!), id);
    for (const { layer, expected = {}, dSae: own = dSae, published = {} } of checkpoints) {
      assert.ok(layers.includes(layer), `${id}, layer ${layer}`);
      assert.ok(expected.l0 === undefined || (expected.l0 > 0 && expected.l0 < own), id);
      assert.ok(expected.mse === undefined || (expected.mse > 0 && expected.mse < 1), id);
      assert.ok(Object.values(published).every((value) => value >= 0), id);
    }
  }
});

Deno.test("publicSaes have the numbers of the tables that they are from", () => {
  const clip = findPublicSae("saev-clip-b16").checkpoints[0];
  assert.deepEqual(clip.expected, { l0: 412.7, mse: 0.0761 });
  const scope = findPublicSae("clip-scope-l14").checkpoints.find(({ layer }) => layer === 22)!;
  assert.equal(scope.expected!.mse!.toFixed(4), "0.2929");
  assert.equal(scope.source, "hf:lewington/CLIP-ViT-L-scope/22_resid/1200013184.pt");
  const prisma = findPublicSae("prisma-clip-b32-resid").checkpoints[11];
  assert.equal(
    prisma.source,
    "hf:Prisma-Multimodal/sparse-autoencoder-clip-b-32-sae-vanilla-x64-layer-11-hook_resid_post-l1-1e-05",
  );
  assert.deepEqual(prisma.expected, { l0: 1405 });
  assert.equal(findPublicSae("sae-for-vlm-clip-l14").checkpoints[3].dSae, 8192);
});

Deno.test("findPublicSae() names those that there are", () => {
  assert.throws(() => findPublicSae("clip"), {
    name: "RangeError",
    message: `Cannot find public SAE clip: its id must be one of ${publicSaes.map(({ id }) => id).join(", ")}`,
  });
});

Deno.test("publicSaesFor() looks at the model's name and its repositories, in whatever case", () => {
  const ids = (text: string) => publicSaesFor(text).map(({ id }) => id);
  assert.deepEqual(ids("BIOCLIP"), ["saev-bioclip-b16"]);
  assert.deepEqual(ids("facebook/dinov2"), ["saev-dinov2-b14"]);
  assert.deepEqual(ids("Xenova/clip-vit-base"), ["saev-clip-b16"]);
  assert.deepEqual(ids("resnet"), []);
});

Deno.test("listPublicCheckpoints() reads the manifest of those that have one", () =>
  withHub(async (hub, options) => {
    const entry = {
      run_id: "3zih0tpa",
      layer: 6,
      l0: 12.34,
      mse: 0.5678,
      sha256: "ab",
      path: "layer_6/3zih0tpa/sae.pt",
    };
    const write = (text: string) =>
      void hub.files.set("manifest.jsonl", { content: new TextEncoder().encode(text), isLarge: false });
    const sae = { ...findPublicSae("saev-dinov3-s16"), manifest: `hf:${repo}/manifest.jsonl` };
    write(JSON.stringify(entry) + "\n");
    assert.deepEqual(await listPublicCheckpoints(sae, options), [{
      source: `hf:${repo}/layer_6/3zih0tpa/sae.pt`,
      layer: 6,
      expected: { l0: 12.34, mse: 0.5678 },
      sha256: "ab",
    }]);
    for (const [i, line] of ["{", "null", '{"path": "x"}', JSON.stringify({ ...entry, layer: "6" })].entries()) {
      write(JSON.stringify(entry) + "\n" + line);
      // A commit never changes, so what is in a cache is not fetched again.
      const cacheDir = join(options.cacheDir, String(i));
      await assert.rejects(listPublicCheckpoints(sae, { ...options, cacheDir }), {
        name: "SyntaxError",
        message: `Cannot read the manifest of hf:${repo}: line 2 must have path, layer, l0, mse and sha256`,
      });
    }
  }));

Deno.test("listPublicCheckpoints() asks nobody for those that have none", async () => {
  const sae = findPublicSae("clip-scope-l14");
  assert.deepEqual(await listPublicCheckpoints(sae, { offline: true }), sae.checkpoints);
});

Deno.test("findPublicCheckpoint() knows public files at whatever revision, and asks nobody about others", async () => {
  const source = "hf:osunlp/SAE_CLIP_24K_ViT-B-16_IN1K/sae.pt";
  const found = await findPublicCheckpoint(source);
  assert.deepEqual(found?.expected, { l0: 412.7, mse: 0.0761 });
  assert.deepEqual(await findPublicCheckpoint(source.replace("/sae.pt", "@v1/sae.pt")), found);
  for (const other of ["sae.pt", "hf:osunlp/SAE_CLIP_24K_ViT-B-16_IN1K/other.pt", "hf:someone/sae/sae.pt"]) {
    assert.equal(await findPublicCheckpoint(other), undefined);
  }
});
