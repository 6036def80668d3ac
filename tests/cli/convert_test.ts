import assert from "node:assert/strict";
import { access, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { InputNormalization, SaeWeights } from "../../lib/compute/contract.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { saveSae } from "../../lib/sae/save.ts";
import { createSae } from "../../lib/sae/sae.ts";
import { convertSae } from "../../lib/sae/convert.ts";
import { randomWeights } from "../support/reference.ts";
import { runCli, withFolder } from "./support.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const exists = (path: string) => access(path).then(() => true, () => false);

function assertSameWeights(actual: SaeWeights, expected: SaeWeights): void {
  for (const name of ["wEnc", "bEnc", "wDec", "bDec", "subtractBDec", "rule"] as const) {
    assert.deepEqual(actual[name], expected[name], name);
  }
}

Deno.test("convert writes saev's checkpoints as ours and back, to the last bit", async () => {
  for (const name of ["s5_HEAD_TopK", "s5_HEAD_Relu", "s5_HEAD_BatchTopK"]) {
    await withFolder(async (folder) => {
      const [own, back] = [join(folder, "own"), join(folder, "back.pt")];
      const there = await runCli("convert", fixture(`saev/${name}.pt`), own, "--to", "own");
      assert.deepEqual([there.status, there.stderr], [0, ""]);
      const { status, stdout } = await runCli("convert", own, back, "--to", "saev");
      assert.equal(status, 0);
      assert.match(stdout, /back\.pt: 128 latents for activations of width 32/);
      const original = await loadSae(fixture(`saev/${name}.pt`));
      assertSameWeights(await loadSae(own), original);
      assertSameWeights(await loadSae(back), original);
    });
  }
});

Deno.test("convert writes one threshold as saev's BatchTopK, with the k that is given", async () => {
  await withFolder(async (folder) => {
    const [source, out] = [fixture("saev/s5_HEAD_Relu.pt"), join(folder, "sae.pt")];
    const command = ["convert", source, out, "--to", "saev", "--rule", "jumprelu=0.5"];
    const { status, stderr } = await runCli(...command);
    assert.equal(status, 1);
    assert.match(stderr, /^error: Cannot write saev checkpoint: k must be given for BatchTopK \(k, --batch-k\)/);
    assert.equal((await runCli(...command, "--batch-k", "12")).status, 0);
    const { rule, provenance: { training } } = await loadSae(out);
    assert.deepEqual(rule, { kind: "jumpRelu", threshold: new Float32Array(128).fill(0.5) });
    assert.equal((training?.activation as { params: { top_k: number } }).params.top_k, 12);
  });
});

Deno.test("convert folds the input bias for saev and says so", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "sae.pt");
    const { stdout } = await runCli("convert", fixture("saev/v0_feb2025_Relu.pt"), out, "--to", "saev", "--json");
    const { decisions: _, ...result } = JSON.parse(stdout);
    assert.deepEqual(result, {
      out,
      to: "saev",
      d_model: 32,
      d_sae: 128,
      changes: ["b_dec is folded into b_enc: it is not subtracted from the input any more"],
    });
    const [original, { subtractBDec, bEnc }] = [await loadSae(fixture("saev/v0_feb2025_Relu.pt")), await loadSae(out)];
    assert.equal(subtractBDec, false);
    const expected = original.bEnc.map((bias, latent) =>
      original.bDec.reduce((sum, value, d) => sum - value * original.wEnc[d * 128 + latent], bias)
    );
    assert.ok(bEnc.every((bias, latent) => Math.abs(bias - expected[latent]) < 1e-5));
  });
});

Deno.test("convert writes CLIP-Scope's checkpoints, and their normalization beside them", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "12.pt");
    const { status } = await runCli("convert", fixture("clip_scope/1200013184.pt"), out, "--to", "clip-scope");
    assert.equal(status, 0);
    const [original, written] = [await loadSae(fixture("clip_scope/1200013184.pt")), await loadSae(out)];
    assertSameWeights(written, original);
    assert.deepEqual(written.provenance.training, original.provenance.training);
    const sidecar = JSON.parse(await readFile(`${out}.normalization.json`, "utf8"));
    assert.equal(sidecar.normalization.kind, original.normalization?.kind ?? "none");
    assert.deepEqual((await readdir(folder)).sort(), ["12.pt", "12.pt.normalization.json"]);
  });
});

Deno.test("convert refuses what the format cannot say, and names the option", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "sae.pt");
    const cases: [string[], RegExp][] = [
      [["saev/s5_HEAD_Relu.pt", "clip-scope"], /it must have the rule topK, current one is relu/],
      [["clip_scope/training.pt", "own"], /^error: Cannot .*training\.pt: k must be given/],
      [["tiny_clip/images.json", "own"], /^error: Cannot open SAE/],
    ];
    for (const [[source, to], message] of cases) {
      const { status, stderr } = await runCli("convert", fixture(source), out, "--to", to);
      assert.equal(status, 1);
      assert.match(stderr, message);
      assert.equal(stderr.trim().split("\n").length, 1);
    }
    const { status, stderr } = await runCli("convert", fixture("saev/s5_HEAD_Relu.pt"), out);
    assert.equal(status, 2);
    assert.match(stderr, /required option '--to <format>' not specified/);
    assert.deepEqual(await readdir(folder), []);
  });
});

Deno.test("convert drops the ReLU of TopK only where it is told to", async () => {
  await withFolder(async (folder) => {
    const [own, out] = [join(folder, "own"), join(folder, "sae.pt")];
    const weights = randomWeights({ dModel: 5, dSae: 7 }, { rule: { kind: "topK", k: 3, relu: true } });
    await saveSae(createSae(weights), own);
    const { status, stderr } = await runCli("convert", own, out, "--to", "saev");
    assert.equal(status, 1);
    assert.match(stderr, /TopK that keeps negative values, .* --drop relu\)/);
    assert.equal(await exists(out), false);
    const { stdout } = await runCli("convert", own, out, "--to", "saev", "--drop", "relu");
    assert.match(stdout, /^- TopK keeps negative values now/m);
    assert.deepEqual((await loadSae(out)).rule, { kind: "topK", k: 3, relu: false });
  });
});

Deno.test("convert writes over what is there only with --force", async () => {
  await withFolder(async (folder) => {
    const [own, file] = [join(folder, "own"), join(folder, "sae.pt")];
    const source = fixture("saev/s5_HEAD_TopK.pt");
    const cases: [string, string, string][] = [["own", own, join(own, "cfg.json")], ["saev", file, file]];
    for (const [to, out, place] of cases) {
      assert.equal((await runCli("convert", source, out, "--to", to)).status, 0);
      const { status, stderr } = await runCli("convert", source, out, "--to", to);
      assert.equal(status, 1);
      assert.equal(
        stderr,
        `error: Cannot write ${out}: ${place} must not be there yet; add --force to write over it\n`,
      );
      assert.equal((await runCli("convert", source, out, "--to", to, "--force")).status, 0);
    }
  });
});

const affine: InputNormalization = {
  kind: "affine",
  mean: Float32Array.of(1, 2, 3, 4, 5),
  scale: Float32Array.of(1, 2, 4, 8, 16),
  clamp: [-1e5, 1e5],
};

Deno.test("convertSae() folds a normalization where it is told to, for CLIP-Scope into the bias it subtracts", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "sae.pt");
    const weights = randomWeights({ dModel: 5, dSae: 7 }, {
      rule: { kind: "topK", k: 3, relu: false },
      subtractBDec: true,
    });
    const sae = createSae({ ...weights, bEnc: new Float32Array(7), normalization: affine });
    await assert.rejects(convertSae(sae, path, { to: "saev" }), {
      name: "TypeError",
      message: /current one is affine \(an affine one can be folded: foldNormalization, --fold-normalization\)$/,
    });
    await assert.rejects(convertSae(sae, path, { to: "saev", foldNormalization: true }), {
      name: "TypeError",
      message: /it must not clamp activations/,
    });
    assert.deepEqual(await readdir(folder), []);
    const options = { foldNormalization: true, drop: ["clamp"] } as const;
    const { changes } = await convertSae(sae, path, { to: "clip-scope", ...options });
    assert.deepEqual(changes, [
      "The normalization is folded into the weights: it takes activations as they are",
      "Activations are no longer clamped to -100000 to 100000",
      "The normalization, none, is beside the file; CLIP-Scope does not read it",
    ]);
    const forClipScope = await loadSae(path);
    assert.deepEqual(forClipScope.bDec, weights.bDec.map((bias, d) => bias * affine.scale[d] + affine.mean[d]));
    assert.equal(forClipScope.subtractBDec, true);
    await convertSae(sae, path, { to: "saev", ...options });
    const forSaev = await loadSae(path);
    assert.deepEqual([forSaev.wEnc, forSaev.wDec, forSaev.bDec], [
      forClipScope.wEnc,
      forClipScope.wDec,
      forClipScope.bDec,
    ]);
    assert.ok(forSaev.bEnc.some((bias) => bias !== 0));
    // The normalization that stood beside the file of CLIP-Scope is not this one's.
    assert.deepEqual(await readdir(folder), ["sae.pt"]);
  });
});

Deno.test("convertSae() lists what it can write and drop", async () => {
  const sae = await loadSae(fixture("saev/s5_HEAD_Relu.pt"));
  const cases: [Record<string, unknown>, string][] = [
    [{ to: "saelens" }, "to must be one of own, saev, clip-scope, current value is saelens"],
    [{ to: "own", drop: ["bias"] }, "drop must be of clamp, relu, current value is bias"],
  ];
  for (const [options, problem] of cases) {
    await assert.rejects(convertSae(sae, "nowhere", options as unknown as Parameters<typeof convertSae>[2]), {
      name: "RangeError",
      message: `Cannot convert SAE: ${problem}`,
    });
  }
});
