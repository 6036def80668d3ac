import assert from "node:assert/strict";
import { presets } from "../../lib/train/presets.ts";
import { learningRateShare, sparsityShare } from "../../lib/train/schedule.ts";
import { readFixture, relativeDifference } from "./traces.ts";

Deno.test("learningRateShare() follows saev's two schedules", async () => {
  const fixture = await readFixture("schedules");
  for (
    const { name, schedule, nSteps } of [
      { name: "warmup_cosine", schedule: presets.saev.schedule, nSteps: 2000 },
      { name: "warmup", schedule: presets["saev-2025-02"].schedule, nSteps: 2000 },
    ]
  ) {
    const expected = fixture.get(name)!;
    // saev tells the rate of the next step, and its first step has none.
    const rates = Array.from(expected, (_, i) => 4e-4 * learningRateShare(schedule, { step: i + 1, nSteps }));
    assert.ok(relativeDifference(rates, expected) < 1e-6, name);
    assert.equal(learningRateShare(schedule, { step: 0, nSteps }), 0);
  }
});

Deno.test("learningRateShare() takes numbers below 1 for shares, rises along a cosine and falls along a line", () => {
  const schedule = { warmUp: 0.1, warmUpShape: "cosine", warmUpFrom: 0.2, decay: "linear", decayFrom: 0.6 } as const;
  const at = (step: number) => Number(learningRateShare(schedule, { step, nSteps: 100 }).toFixed(6));
  assert.deepEqual([0, 5, 10, 59, 60, 80, 100, 120].map(at), [0.2, 0.6, 1, 1, 1, 0.5, 0, 0]);
});

Deno.test("sparsityShare() rises to the whole coefficient and stays", () => {
  const at = (warmUp: number) => [0, 5, 10, 50].map((step) => sparsityShare(warmUp, { step, nSteps: 100 }));
  assert.deepEqual(at(10), [0, 0.5, 1, 1]);
  assert.deepEqual(at(0.1), [0, 0.5, 1, 1]);
  assert.deepEqual(at(0), [1, 1, 1, 1]);
});
