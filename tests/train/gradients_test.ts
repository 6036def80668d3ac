import assert from "node:assert/strict";
import { openForward, type TopPreActivations } from "../../lib/train/forward.ts";
import { addAuxKGradients, addReconstructionGradients } from "../../lib/train/gradients.ts";
import { parameterNames, type Parameters, zerosLike } from "../../lib/train/parameters.ts";
import { seededRandom } from "../../lib/train/random.ts";

const dModel = 5;
const dSae = 7;
const k = 3;
const nTokens = 4;
const variance = 2.5;

function randomArray(length: number, random: () => number): Float32Array {
  return Float32Array.from({ length }, () => random() * 2 - 1);
}

function randomParameters(seed: number): { parameters: Parameters; x: Float32Array } {
  const random = seededRandom(seed);
  const parameters = {
    wEnc: randomArray(dSae * dModel, random),
    bEnc: randomArray(dSae, random),
    wDec: randomArray(dSae * dModel, random),
    bDec: randomArray(dModel, random),
  };
  return { parameters, x: randomArray(nTokens * dModel, random) };
}

/** Pre-activations in float64, with the latents of a choice made before: gradients hold the choice fixed. */
function activate(parameters: Parameters, x: Float32Array, latents: Int32Array): TopPreActivations {
  const values = Float64Array.from(latents, (latent, i) => {
    const token = Math.floor(i / k);
    let h = parameters.bEnc[latent];
    for (let d = 0; d < dModel; d++) {
      h += (x[token * dModel + d] - parameters.bDec[d]) * parameters.wEnc[latent * dModel + d];
    }
    return h;
  });
  return { values: values as unknown as Float32Array, latents };
}

/** The loss, written out plainly. */
function plainLoss(parameters: Parameters, x: Float32Array, latents: Int32Array): number {
  const { values } = activate(parameters, x, latents);
  let loss = 0;
  for (let token = 0; token < nTokens; token++) {
    for (let d = 0; d < dModel; d++) {
      let reconstruction = parameters.bDec[d];
      for (let i = token * k; i < (token + 1) * k; i++) {
        reconstruction += Math.max(0, values[i]) * parameters.wDec[latents[i] * dModel + d];
      }
      loss += (reconstruction - x[token * dModel + d]) ** 2;
    }
  }
  return loss / (nTokens * variance);
}

function centered(parameters: Parameters, x: Float32Array): Float32Array {
  return x.map((value, i) => value - parameters.bDec[i % dModel]);
}

Deno.test("addReconstructionGradients() matches finite differences of the loss", async () => {
  const { parameters, x } = randomParameters(1);
  const forward = await openForward({ dModel, dSae, k, threads: 1 });
  const top = await forward.top(centered(parameters, x), parameters.wEnc, parameters.bEnc);
  await forward.close();
  const latents = top.latents.slice();
  const gradients = zerosLike(parameters);
  const terms = { centered: centered(parameters, x), top, k, dModel, variance };
  const residual = new Float32Array(x.length);
  const loss = addReconstructionGradients(parameters, gradients, { ...terms, residual, fired: () => {} });
  assert.ok(Math.abs(loss - plainLoss(parameters, x, latents)) < 1e-5);
  for (const name of parameterNames) {
    for (let i = 0; i < parameters[name].length; i++) {
      const moved = (by: number) => {
        const values = Float64Array.from(parameters[name]);
        values[i] += by;
        return plainLoss({ ...parameters, [name]: values as unknown as Float32Array }, x, latents);
      };
      const numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
      assert.ok(Math.abs(gradients[name][i] - numeric) < 1e-4, `${name}[${i}]: ${gradients[name][i]} and ${numeric}`);
    }
  }
});

Deno.test("addAuxKGradients() matches finite differences where the residual is held fixed", () => {
  const { parameters, x } = randomParameters(2);
  const latents = Int32Array.of(0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4);
  const residual = randomArray(x.length, seededRandom(3));
  const weight = 0.25;
  const fixed = centered(parameters, x);
  const loss = (p: Parameters) => {
    let total = 0;
    for (let token = 0; token < nTokens; token++) {
      for (let d = 0; d < dModel; d++) {
        let left = residual[token * dModel + d];
        for (let i = token * k; i < (token + 1) * k; i++) {
          let h = p.bEnc[latents[i]];
          for (let e = 0; e < dModel; e++) h += fixed[token * dModel + e] * p.wEnc[latents[i] * dModel + e];
          left -= Math.max(0, h) * p.wDec[latents[i] * dModel + d];
        }
        total += left * left;
      }
    }
    return weight * total / (nTokens * variance);
  };
  const gradients = zerosLike(parameters);
  const top = activate(parameters, x, latents);
  const unweighted = addAuxKGradients(parameters, gradients, {
    centered: fixed,
    top,
    k,
    dModel,
    variance,
    residual,
    weight,
  });
  assert.ok(Math.abs(weight * unweighted - loss(parameters)) < 1e-5);
  for (const name of ["wEnc", "bEnc", "wDec"] as const) {
    for (let i = 0; i < parameters[name].length; i++) {
      const moved = (by: number) => {
        const values = Float64Array.from(parameters[name]);
        values[i] += by;
        return loss({ ...parameters, [name]: values as unknown as Float32Array });
      };
      const numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
      assert.ok(Math.abs(gradients[name][i] - numeric) < 1e-4, `${name}[${i}]: ${gradients[name][i]} and ${numeric}`);
    }
  }
});
